"""Tasks with one fault each, in what depends on seeds, processes and options; or in metrics of several batches."""

import random
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seqlab import Batch, Examples, Ragged, ReportingTask, Task

from ..good_sequences import FreshSum, NextToken, StepAccuracy
from ..good_tasks import Mean, TwoClasses
from ..odd_tasks import Tagging


class LabelsInHashOrder(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        self.labels = list({*"abcdefgh"})[:2]
        return made


class SplitsByHash(TwoClasses):
    def texts(self) -> list[str]:
        return sorted(super().texts(), key=hash)


class OrderOfASet(Tagging):
    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        train = made["train"]
        order = [int(name) for name in {str(row) for row in range(len(train))}]
        parts = train.inputs.values.split(train.inputs.lengths.tolist())
        made["train"] = Examples(Ragged.of([parts[row] for row in order]), train.targets[order])
        return made


class DrawsByHash(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count, hash(f"train {seed}") % 10**6)


class SeedsTorch(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        torch.manual_seed(self.split_seed)
        return super().splits()


class SeedsPython(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        random.seed(self.split_seed)
        return super().splits()


class SeedsNumPyInDraws(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        np.random.seed(seed)
        return super().draw(count, seed)


class DrawsOneSeedARow(FreshSum):
    """The rows of neighbouring seeds are the same but one."""

    def draw(self, count: int, seed: int) -> Examples:
        parts = [super(DrawsOneSeedARow, self).draw(1, seed + row) for row in range(count)]
        targets = torch.full((count, 2 * (self.sequence_length or 1), 1), torch.nan)
        for row, part in enumerate(parts):
            targets[row, : part.targets.shape[1]] = part.targets[0]
        return Examples(Ragged.of([part.inputs.values for part in parts]), targets)


class DrawsFewSeeds(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count, seed % 256)


class DrawsOnFromBefore(FreshSum):
    drawn = 0

    def draw(self, count: int, seed: int) -> Examples:
        self.drawn += 1
        return super().draw(count, seed + 1000 * (self.drawn > 2))


class ShufflesTextsAlone(TwoClasses):
    """By a seed; the targets stay."""

    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        train = made["train"]
        texts = list(train.inputs)
        random.Random(self.split_seed).shuffle(texts)
        made["train"] = Examples(texts, train.targets)
        return made


class SplitSeedOrdersTraining(TwoClasses):
    def splits(self) -> Mapping[str, Examples]:
        seed, self.split_seed = self.split_seed, 0
        made = dict(super().splits())
        self.split_seed = seed
        order = torch.randperm(len(made["train"]), generator=torch.Generator().manual_seed(seed)).tolist()
        train = made["train"]
        made["train"] = Examples([train.inputs[row] for row in order], train.targets[order])
        return made


class OneOptionIsWrong(TwoClasses):
    """Smoothing takes the number of rows for that of classes."""

    def __init__(
        self,
        split_seed: int = 0,
        sequence_length: int | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__(split_seed, sequence_length)
        self.reduction = reduction

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction=self.reduction)


class OneSwitchIsWrong(TwoClasses):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None, balanced: bool = False) -> None:
        super().__init__(split_seed, sequence_length)
        self.balanced = balanced

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if not self.balanced:
            return super().loss(outputs, batch)
        weights = torch.tensor([0.2, 0.8]).repeat(len(outputs))[: len(outputs)]
        return (F.cross_entropy(outputs, batch.targets, reduction="none") * weights).mean()


class DrawsOthersTargets(FreshSum):
    def draw(self, count: int, seed: int) -> Examples:
        made = super().draw(count, seed)
        return Examples(made.inputs, made.targets.roll(1, 0))


class ChangesItsTexts(TwoClasses):
    """Which it keeps, and lowers when it is asked for a baseline."""

    kept: Any = None

    def splits(self) -> Mapping[str, Examples]:
        made = super().splits()
        self.kept = made["train"].inputs
        return made

    def baseline_outputs(self, batch: Batch) -> Tensor:
        self.kept[0] = "changed"
        return super().baseline_outputs(batch)


# Metrics ------------------------------------------------------------------------------------------------------------


class Hits(Metric):
    """Kept beside torchmetrics' states, so that no process hears of another's."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.hits = self.seen = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.hits += int((outputs.argmax(-1) == targets).sum())
        self.seen += len(targets)

    def compute(self) -> Tensor:
        return torch.tensor(self.hits / max(1, self.seen))

    def reset(self) -> None:
        super().reset()
        self.hits = self.seen = 0


class MetricStaysAtHome(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": Hits()})


class Averaged(Metric):
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="mean")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="max")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total += (outputs.argmax(-1) == targets).sum()
        self.count += len(targets)

    def compute(self) -> Tensor:
        return self.total / self.count


class MetricJoinsByTheMean(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": Averaged()})


class Recent(Mean):
    """Of the last batches above all."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).double()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total *= 0.9
        super().update(outputs, targets)


class MetricForgets(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": Recent()})


class FirstRows(Mean):
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:64].argmax(-1) == targets[:64]).double()


class MetricOfTheFirstRows(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": FirstRows()})


class Marking(StepAccuracy):
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        values = super().values(outputs, targets)
        targets[targets < 0] = 0
        return values


class Narrow(Mean):
    """Counts in eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.uint8), dist_reduce_fx="sum")

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).to(torch.uint8)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total += self.values(outputs, targets).sum().to(torch.uint8)
        self.count += len(targets)


class MetricOverflows(TwoClasses):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": Narrow()})


class MetricMarksTargets(Tagging):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": Marking()})


class DecodesInPlace(NextToken):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        outputs[..., 0] = -torch.inf
        return super().decode(outputs, top)


class MetricIsConstant(TwoClasses):
    """Accuracy of what is never predicted."""

    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro", ignore_index=0), "none": Never()})

    @property
    def monitor(self) -> str:
        return "none"


class Never(Mean):
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == 5 + targets).double()


class DetailsOfTheLastBatch(TwoClasses, ReportingTask):
    def details(self) -> MetricCollection:
        return MetricCollection({"counts": LastCounts()})


class LastCounts(Metric):
    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.counts = torch.bincount(targets, minlength=2).float()

    def compute(self) -> Tensor:
        return self.counts


CAUGHT: list[tuple[type[Task], str]] = [
    (LabelsInHashOrder, "same_in_another_process"),
    (SplitsByHash, "same_in_another_process"),
    (OrderOfASet, "same_in_another_process"),
    (DrawsByHash, "same_in_another_process"),
    (SeedsTorch, "global_random_numbers_are_left_alone"),
    (SeedsPython, "global_random_numbers_are_left_alone"),
    (SeedsNumPyInDraws, "global_random_numbers_are_left_alone"),
    (DrawsOneSeedARow, "draws_are_independent"),
    (DrawsFewSeeds, "draws_are_independent"),
    (DrawsOnFromBefore, "draws_are_seeded"),
    (ShufflesTextsAlone, "split_seed_deals_anew"),
    (SplitSeedOrdersTraining, "split_seed_deals_anew"),
    (OneOptionIsWrong, "every_option"),
    (OneSwitchIsWrong, "every_option"),
    (MetricStaysAtHome, "metrics_join"),
    (MetricJoinsByTheMean, "metrics_join"),
    (MetricForgets, "metrics_add_up"),
    (MetricOfTheFirstRows, "metrics_add_up"),
    (MetricOverflows, "metrics_add_up"),
    (DrawsOthersTargets, "draws_are_seeded"),
    (ChangesItsTexts, "splits_are_the_same_again"),
    (MetricMarksTargets, "nothing_changes_in_place"),
    (DecodesInPlace, "nothing_changes_in_place"),
    (MetricIsConstant, "mode_is_right"),
    (DetailsOfTheLastBatch, "metrics_add_up"),
]
"""Each fault, and the check that must find it."""
