"""Tasks with one fault each, in the constructor, the data, or how examples are split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seqlab import Batch, Examples, Ragged

from ..good_sequences import FreshSum, NextToken, Parity, RunningSum
from ..good_tasks import TwoClasses
from ..odd_tasks import ManyLabels, Ordinal, Windows


class NeedsAFolder(TwoClasses, caught_by="constructor_needs_nothing"):
    def __init__(self, folder: str, sequence_length: int | None = None) -> None:
        super().__init__(sequence_length=sequence_length)


class ReadsAtOnce(TwoClasses, caught_by="constructor_reads_no_data"):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        super().__init__(split_seed, sequence_length)
        self.licence = Path(__file__).read_text("utf-8")


class TakesNoLength(TwoClasses, caught_by="sequence_length_is_an_option"):
    def __init__(self, split_seed: int = 0) -> None:
        super().__init__(split_seed)


class TakesAnyLength(TwoClasses, caught_by="sequence_length_is_an_option"):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        super().__init__(split_seed)
        self.sequence_length = sequence_length


class ForgetsItsLength(TwoClasses, caught_by="sequence_length_is_an_option"):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        super().__init__(split_seed, sequence_length)
        self.sequence_length = None


class NoValidation(TwoClasses, caught_by="splits_are_three"):
    def splits(self) -> Mapping[str, Examples]:
        return {name: examples for name, examples in super().splits().items() if name != "valid"}


class EmptyTest(TwoClasses, caught_by="splits_are_three"):
    def splits(self) -> Mapping[str, Examples]:
        return {**super().splits(), "test": Examples([], torch.zeros(0, dtype=torch.int64))}


class TestsOnTraining(TwoClasses, caught_by="splits_are_disjoint"):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        test, train = made["test"], made["train"]
        targets = torch.cat([test.targets[1:], train.targets[:1]])
        return {**made, "test": Examples([*test.inputs[1:], train.inputs[0]], targets)}  # type: ignore[misc]  # its inputs are texts


class ValidatesOnTestedTensors(RunningSum, caught_by="splits_are_disjoint"):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        return {**made, "valid": made["test"]}


class SplitsByTheGlobalSeed(TwoClasses, caught_by="splits_are_reproducible"):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed = int(torch.randint(1000, ()))
        return super().splits()


class SplitsOnFromWhereItWas(TwoClasses, caught_by="splits_are_reproducible"):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed += 1
        return super().splits()


class IgnoresSplitSeed(TwoClasses, caught_by="split_seed_changes_the_splits"):
    def splits(self) -> Mapping[str, Examples]:
        self.split_seed = 0
        return super().splits()


class DrawsByTheGlobalSeed(FreshSum, caught_by="draws_are_seeded"):
    def draw(self, count: int, seed: int) -> Examples:
        return self._made(count, torch.Generator().manual_seed(int(torch.randint(10**6, ()))))


class DrawsTheSameForEverySeed(FreshSum, caught_by="draws_are_seeded"):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count, 0)


class DrawsWhatItTests(FreshSum, caught_by="draws_are_seeded"):
    def draw(self, count: int, seed: int) -> Examples:
        test = self.splits()["test"]
        assert isinstance(test.inputs, Ragged)
        steps = int(test.inputs.lengths[seed : seed + count].sum())
        begin = int(test.inputs.starts[seed])
        inputs = Ragged(test.inputs.values[begin : begin + steps], test.inputs.lengths[seed : seed + count])
        return Examples(inputs, test.targets[seed : seed + count])


class DrawsTooFew(FreshSum, caught_by="draws_are_seeded"):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count - 1, seed)


class GivesBytes(TwoClasses, caught_by="inputs_are_right"):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        as_bytes = {name: [text.encode() for text in part.inputs] for name, part in made.items()}
        return {name: Examples(as_bytes[name], part.targets) for name, part in made.items()}


class TokensFromZero(NextToken, caught_by="inputs_are_right"):
    def splits(self) -> Mapping[str, Examples]:
        return {
            name: Examples(Ragged(part.inputs.values - 1, part.inputs.lengths), part.targets)
            for name, part in super().splits().items()
        }


class TestsOnNewTokens(NextToken, caught_by="inputs_are_right"):
    def change(self, made: dict[str, Examples]) -> None:
        made["test"].inputs.values[0] = 10


class NamesNoPreprocessing(TwoClasses, caught_by="default_preprocessing"):
    preprocessing = None


class NamesAStrangePreprocessing(TwoClasses, caught_by="default_preprocessing"):
    preprocessing = "runes"


class PreprocessesTensors(Parity, caught_by="default_preprocessing"):
    preprocessing = "characters"


class CountsClassesFromOne(TwoClasses, caught_by="targets_are_right"):
    def splits(self) -> Mapping[str, Examples]:
        return {name: Examples(part.inputs, part.targets + 1) for name, part in super().splits().items()}


class TargetsOneStepShort(NextToken, caught_by="targets_are_right"):
    def splits(self) -> Mapping[str, Examples]:
        return {name: Examples(part.inputs, part.targets[:, 1:]) for name, part in super().splits().items()}


class ATargetIsInfinite(RunningSum, caught_by="targets_are_right"):
    def change(self, made: dict[str, Examples]) -> None:
        made["train"].targets[3, 0] = torch.inf


class WeighsClasses(TwoClasses, caught_by="sample_weights"):
    def sample_weights(self) -> Tensor:
        return torch.tensor([0.3, 0.7])


class WeighsBelowZero(TwoClasses, caught_by="sample_weights"):
    def sample_weights(self) -> Tensor:
        return torch.linspace(-1, 1, self.examples)

    def change(self, made: dict[str, Examples]) -> None:
        self.examples = len(made["train"])


class CutsTextsItself(TwoClasses, caught_by="sequence_length_is_respected"):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        cut = self.sequence_length
        return {name: Examples([text[:cut] for text in part.inputs], part.targets) for name, part in made.items()}


class MeansSomethingElse(TwoClasses, caught_by="sequence_length_is_respected"):
    sequence_length_means = "minimum"


class IgnoresItsWindow(NextToken, caught_by="sequence_length_is_respected"):
    def splits(self) -> Mapping[str, Examples]:
        kept, self.sequence_length = self.sequence_length, 16
        made = super().splits()
        self.sequence_length = kept
        return made


class DistanceIsNotReached(RunningSum, caught_by="sequence_length_is_respected"):
    def splits(self) -> Mapping[str, Examples]:
        kept, self.sequence_length = self.sequence_length, 6
        made = super().splits()
        self.sequence_length = kept
        return made


class ShufflesItsWindows(Windows, caught_by="splits_share_no_steps"):
    """Windows of a series that overlap, dealt by chance."""

    def splits(self) -> Mapping[str, Examples]:
        made = self.windows(0, 330)
        order = torch.randperm(len(made), generator=torch.Generator().manual_seed(1))
        parts = {"train": order[:-100], "valid": order[-100:-50], "test": order[-50:]}
        return {name: Examples(made.inputs.take(rows), made.targets[rows]) for name, rows in parts.items()}


class ShufflesItsTokens(ShufflesItsWindows, caught_by="splits_share_no_steps"):
    """The same of token ids."""

    def windows(self, low: int, high: int) -> Examples:
        ids = torch.randint(1, 99, (330,), generator=torch.Generator().manual_seed(5))[low:high]
        made = ids.unfold(0, 13, 1)
        return Examples(Ragged.of(list(made[:, :-1])), made[:, -1].float())


class CutsSortedData(TwoClasses, caught_by="splits_are_shuffled"):
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


class TestsOnOtherClasses(TwoClasses, caught_by="splits_are_shuffled"):
    """Each class of test is one that training never showed."""

    def change(self, made: dict[str, Examples]) -> None:
        self.labels = ["without", "with", "neither", "both"]
        self.shares = [*self.shares, 0.01, 0.01]
        made["test"] = Examples(made["test"].inputs, made["test"].targets + 2)


class ForgetsAnOption(TwoClasses, caught_by="options_are_read"):
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


class ForgetsANumber(TwoClasses, caught_by="options_are_read"):
    """Takes an option without keeping it."""

    def __init__(self, split_seed: int = 0, sequence_length: int | None = None, smallest_share: float = 0.5) -> None:
        super().__init__(split_seed, sequence_length)


class DerivesFromWhatIsNotThere(TwoClasses, caught_by="derived_figures_are_numbers"):
    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        return {"error": 1 - metrics["top1"]}


class DerivesFromStatisticsAlone(TwoClasses, caught_by="derived_figures_are_numbers"):
    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy_per_token": metrics["accuracy"] / statistics["tokens"]}


class DerivesAnotherAccuracy(TwoClasses, caught_by="derived_figures_are_numbers"):
    """In per cent, under the name of the metric."""

    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy": 100 * metrics["accuracy"]}


class BaselineCountsHalfMore(ManyLabels, caught_by="baseline_comes_from_training"):
    """The shares of each label over all splits."""

    def change(self, made: dict[str, Examples]) -> None:
        self.known = torch.cat([part.targets for part in made.values()]).mean(0)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return self.known.logit().expand(len(batch.targets), -1)


class BaselineIsSmoothed(TwoClasses, caught_by="baseline_comes_from_training"):
    """By half an example of each class, over all splits."""

    def change(self, made: dict[str, Examples]) -> None:
        counts = torch.bincount(torch.cat([part.targets for part in made.values()])) + 0.5
        self.shares = (counts / counts.sum()).tolist()


class BaselineRanksTest(Ordinal, caught_by="baseline_comes_from_training"):
    """How often a target of test is above each step."""

    def change(self, made: dict[str, Examples]) -> None:
        self.above = (made["test"].targets.unsqueeze(1) > torch.arange(self.outputs)).float().mean(0)

    def blind_outputs(self, batch: Batch) -> Tensor:
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


class HeadShiftsInEvaluation(TwoClasses, caught_by="head_keeps_no_statistics"):
    layer = SlowMean


class SwitchNormalisesTheBatch(TwoClasses, caught_by="every_option"):
    """One value of an option lets rows leak into each other."""

    def __init__(self, split_seed: int = 0, sequence_length: int | None = None, normalised: bool = False) -> None:
        super().__init__(split_seed, sequence_length)
        self.normalised = normalised

    def head(self, features: int) -> nn.Module:
        layer = nn.Linear(features, self.outputs)
        return nn.Sequential(nn.BatchNorm1d(features), layer) if self.normalised else layer
