"""Tasks with one fault each, in how examples are dealt, in options that do nothing and in figures that are derived."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seqlab import Batch, Examples, Ragged, ReportingTask, Task

from ..good_tasks import TwoClasses
from ..odd_tasks import ManyLabels, Ordinal
from ..odd_windows import Windows


class ShufflesItsWindows(Windows):
    """Windows of a series that overlap, dealt by chance."""

    def splits(self) -> Mapping[str, Examples]:
        made = self.windows(0, 330)
        order = torch.randperm(len(made), generator=torch.Generator().manual_seed(1))
        parts = {"train": order[:-100], "valid": order[-100:-50], "test": order[-50:]}
        return {name: Examples(made.inputs.take(rows), made.targets[rows]) for name, rows in parts.items()}


class ShufflesItsTokens(ShufflesItsWindows):
    """The same of token ids."""

    def windows(self, low: int, high: int) -> Examples:
        ids = torch.randint(1, 99, (330,), generator=torch.Generator().manual_seed(5))[low:high]
        made = ids.unfold(0, 13, 1)
        return Examples(Ragged.of(list(made[:, :-1])), made[:, -1].float())


class CutsSortedData(TwoClasses):
    """Texts without the pair come first."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits().values()
        pairs = sorted(
            ((int(target), text) for part in made for text, target in zip(part.inputs, part.targets, strict=True)),
        )
        parts = {"train": pairs[:-100], "valid": pairs[-100:-50], "test": pairs[-50:]}
        return {
            name: Examples([text for _, text in part], torch.tensor([target for target, _ in part]))
            for name, part in parts.items()
        }


class TestsOnOtherClasses(TwoClasses):
    """Each class of test is one that training never showed."""

    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        self.labels = ["without", "with", "neither", "both"]
        self.shares = [*self.shares, 0.01, 0.01]
        made["test"] = Examples(made["test"].inputs, made["test"].targets + 2)
        return made


class ForgetsAnOption(TwoClasses):
    """Checks and keeps an option, and then does nothing about it."""

    def __init__(
        self,
        split_seed: int = 0,
        sequence_length: int | None = None,
        weighting: Literal["none", "balanced"] = "none",
    ) -> None:
        super().__init__(split_seed, sequence_length)
        if weighting not in ("none", "balanced"):
            raise ValueError(f"weighting is {weighting}")
        self.weighting = weighting


class ForgetsANumber(TwoClasses):
    """Takes an option without keeping it."""

    def __init__(self, split_seed: int = 0, sequence_length: int | None = None, minimum: float = 0.5) -> None:
        super().__init__(split_seed, sequence_length)


class DerivesFromWhatIsNotThere(TwoClasses, ReportingTask):
    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        return {"error": 1 - metrics["top1"]}


class DerivesFromStatisticsAlone(TwoClasses, ReportingTask):
    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy_per_token": metrics["accuracy"] / statistics["tokens"]}


class DerivesAnotherAccuracy(TwoClasses, ReportingTask):
    """In per cent, under the name of the metric."""

    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy": 100 * metrics["accuracy"]}


class BaselineCountsHalfMore(ManyLabels):
    """The shares of each label over all splits."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        self.known = torch.cat([part.targets for part in made.values()]).mean(0)
        return made

    def baseline_outputs(self, batch: Batch) -> Tensor:
        return self.known.logit().expand(len(batch.targets), -1)


class BaselineIsSmoothed(TwoClasses):
    """By half an example of each class, over all splits."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        counts = torch.bincount(torch.cat([part.targets for part in made.values()])) + 0.5
        self.shares = (counts / counts.sum()).tolist()
        return made


class BaselineRanksTest(Ordinal):
    """How often a target of test is above each step."""

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        self.above = (made["test"].targets.unsqueeze(1) > torch.arange(self.outputs)).float().mean(0)
        return made

    def baseline_outputs(self, batch: Batch) -> Tensor:
        return self.above.logit().expand(len(batch.targets), -1)


class SlowMean(nn.Linear):
    """Keeps a mean in training, which is used in evaluation alone."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.register_buffer("mean", torch.zeros(features))

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(features.detach().flatten(0, -2).mean(0), 0.01)
            return super().forward(features)
        return super().forward(features - self.mean)


class HeadShiftsInEvaluation(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return SlowMean(features, self.outputs)


class SwitchNormalisesTheBatch(TwoClasses):
    """One value of an option lets rows leak into each other."""

    def __init__(self, split_seed: int = 0, sequence_length: int | None = None, normalised: bool = False) -> None:
        super().__init__(split_seed, sequence_length)
        self.normalised = normalised

    def head(self, features: int) -> nn.Module:
        layer = nn.Linear(features, self.outputs)
        return nn.Sequential(nn.BatchNorm1d(features), layer) if self.normalised else layer


CAUGHT: list[tuple[type[Task], str]] = [
    (ShufflesItsWindows, "splits_share_no_steps"),
    (ShufflesItsTokens, "splits_share_no_steps"),
    (CutsSortedData, "splits_are_dealt_by_chance"),
    (TestsOnOtherClasses, "splits_are_dealt_by_chance"),
    (ForgetsAnOption, "options_are_read"),
    (ForgetsANumber, "options_are_read"),
    (DerivesFromWhatIsNotThere, "derived_figures_are_numbers"),
    (DerivesFromStatisticsAlone, "derived_figures_are_numbers"),
    (DerivesAnotherAccuracy, "derived_figures_are_numbers"),
    (BaselineCountsHalfMore, "baseline_is_of_training"),
    (BaselineIsSmoothed, "baseline_is_of_training"),
    (BaselineRanksTest, "baseline_is_of_training"),
    (HeadShiftsInEvaluation, "head_keeps_no_statistics"),
    (SwitchNormalisesTheBatch, "every_option"),
]
"""Each fault, and the check that must find it."""
