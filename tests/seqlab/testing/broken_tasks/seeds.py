"""Tasks with one fault each, in what depends on seeds, processes and options, or in metrics."""

import random
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seqlab import Batch, Examples, Ragged, ReportingTask

from ..good_sequences import CrossEntropy, FreshSum, NextToken, StepAccuracy
from ..good_tasks import Mean, TwoClasses
from ..odd_tasks import Tagging


class LabelsInHashOrder(TwoClasses, caught_by="same_in_another_process"):
    def change(self, made: dict[str, Examples]) -> None:
        self.labels = list({*"abcdefgh"})[:2]


class SplitsByHash(TwoClasses, caught_by="same_in_another_process"):
    def texts(self) -> list[str]:
        return sorted(super().texts(), key=hash)


class OrderOfASet(Tagging, caught_by="same_in_another_process"):
    def change(self, made: dict[str, Examples]) -> None:
        train = made["train"]
        order = [int(name) for name in {str(row) for row in range(len(train))}]
        parts = train.inputs.values.split(train.inputs.lengths.tolist())
        made["train"] = Examples(Ragged.of([parts[row] for row in order]), train.targets[order])


class DrawsByHash(FreshSum, caught_by="same_in_another_process"):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count, hash(f"train {seed}") % 10**6)


class SeedsTorch(TwoClasses, caught_by="global_random_numbers_are_left_alone"):
    def splits(self) -> Mapping[str, Examples]:
        torch.manual_seed(self.split_seed)
        return super().splits()


class SeedsPython(TwoClasses, caught_by="global_random_numbers_are_left_alone"):
    def splits(self) -> Mapping[str, Examples]:
        random.seed(self.split_seed)
        return super().splits()


class SeedsNumPyInDraws(FreshSum, caught_by="global_random_numbers_are_left_alone"):
    def draw(self, count: int, seed: int) -> Examples:
        np.random.seed(seed)
        return super().draw(count, seed)


class DrawsOneSeedARow(FreshSum, caught_by="draws_are_independent"):
    """The rows of neighbouring seeds are the same but one."""

    def draw(self, count: int, seed: int) -> Examples:
        parts = [super(DrawsOneSeedARow, self).draw(1, seed + row) for row in range(count)]
        targets = torch.full((count, 2 * (self.sequence_length or 1), 1), torch.nan)
        for row, part in enumerate(parts):
            targets[row, : part.targets.shape[1]] = part.targets[0]
        return Examples(Ragged.of([part.inputs.values for part in parts]), targets)


class IgnoresTheLength(FreshSum, caught_by="draws_honour_a_length"):
    def draw(self, count: int, seed: int, length: int | None = None) -> Examples:
        return super().draw(count, seed)


class DrawsFewSeeds(FreshSum, caught_by="draws_are_independent"):
    def draw(self, count: int, seed: int) -> Examples:
        return super().draw(count, seed % 256)


class DrawsOnFromBefore(FreshSum, caught_by="draws_are_seeded"):
    drawn = 0

    def draw(self, count: int, seed: int) -> Examples:
        self.drawn += 1
        return super().draw(count, seed + 1000 * (self.drawn > 2))


class ShufflesTextsAlone(TwoClasses, caught_by="split_seed_changes_the_splits"):
    """By a seed; the targets stay."""

    def change(self, made: dict[str, Examples]) -> None:
        train = made["train"]
        texts = list(train.inputs)
        random.Random(self.split_seed).shuffle(texts)
        made["train"] = Examples(texts, train.targets)


class SplitSeedOrdersTraining(TwoClasses, caught_by="split_seed_changes_the_splits"):
    def splits(self) -> Mapping[str, Examples]:
        seed, self.split_seed = self.split_seed, 0
        made = dict(super().splits())
        self.split_seed = seed
        order = torch.randperm(len(made["train"]), generator=torch.Generator().manual_seed(seed)).tolist()
        train = made["train"]
        made["train"] = Examples([train.inputs[row] for row in order], train.targets[order])
        return made


class OneOptionIsWrong(TwoClasses, caught_by="every_option"):
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


class OneSwitchIsWrong(TwoClasses, caught_by="every_option"):
    def __init__(self, split_seed: int = 0, sequence_length: int | None = None, balanced: bool = False) -> None:
        super().__init__(split_seed, sequence_length)
        self.balanced = balanced

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if not self.balanced:
            return super().loss(outputs, batch)
        weights = torch.tensor([0.2, 0.8]).repeat(len(outputs))[: len(outputs)]
        return (F.cross_entropy(outputs, batch.targets, reduction="none") * weights).mean()


class DrawsOthersTargets(FreshSum, caught_by="draws_are_seeded"):
    def draw(self, count: int, seed: int) -> Examples:
        made = super().draw(count, seed)
        return Examples(made.inputs, made.targets.roll(1, 0))


class ChangesItsTexts(TwoClasses, caught_by="splits_are_reproducible"):
    """Which it keeps, and lowers when it is asked for a baseline."""

    kept: Any = None

    def change(self, made: dict[str, Examples]) -> None:
        self.kept = made["train"].inputs

    def baseline_outputs(self, batch: Batch) -> Tensor:
        self.kept[0] = "changed"
        return super().baseline_outputs(batch)


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


class MetricStaysAtHome(TwoClasses, caught_by="metrics_join"):
    measures = (("accuracy", Hits),)


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


class MetricJoinsByTheMean(TwoClasses, caught_by="metrics_join"):
    measures = (("accuracy", Averaged),)


class Recent(Mean):
    """Of the last batches above all."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).double()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total *= 0.9
        super().update(outputs, targets)


class MetricForgets(TwoClasses, caught_by="metrics_add_up"):
    measures = (("accuracy", Recent),)


class FirstRows(Mean):
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:64].argmax(-1) == targets[:64]).double()


class MetricOfTheFirstRows(TwoClasses, caught_by="metrics_add_up"):
    measures = (("accuracy", FirstRows),)


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


class MetricOverflows(TwoClasses, caught_by="metrics_add_up"):
    measures = (("accuracy", Narrow),)


class MetricMarksTargets(Tagging, caught_by="nothing_changes_in_place"):
    measures = (("accuracy", Marking),)


class DecodesInPlace(NextToken, caught_by="nothing_changes_in_place"):
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        outputs[..., 0] = -torch.inf
        return super().decode(outputs, top)


class Never(Mean):
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == 5 + targets).double()


class MetricIsConstant(TwoClasses, caught_by="mode_is_right"):
    """Accuracy of what is never predicted."""

    measures = (
        ("accuracy", lambda: MulticlassAccuracy(2, average="micro", ignore_index=0)),
        ("none", Never),
    )

    monitor = "none"


class DetailsOfTheLastBatch(TwoClasses, ReportingTask, caught_by="metrics_add_up"):
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


class MetricOfEachClass(TwoClasses, caught_by="metrics_are_finite_scalars"):
    measures = (("accuracy", lambda: MulticlassAccuracy(2, average="none")),)


class Undefined(Mean):
    """Nothing by nothing."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros(0)


class MetricIsNaN(TwoClasses, caught_by="metrics_are_finite_scalars"):
    measures = (
        ("accuracy", lambda: MulticlassAccuracy(2, average="micro")),
        ("share", Undefined),
    )


class MonitorsNothing(TwoClasses, caught_by="monitor_is_a_metric"):
    monitor = "valid/accuracy"


class ModeIsAWord(TwoClasses, caught_by="monitor_is_a_metric"):
    mode = "higher"


ONE = MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro")})


class SharesItsMetrics(TwoClasses, caught_by="metrics_are_fresh"):
    def metrics(self) -> MetricCollection:
        return ONE


class KeepsCounting(Mean):
    """A reset forgets the sum, and not the count."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).double()

    def reset(self) -> None:
        count = self.count
        super().reset()
        self.count = count.clone()


class MetricsAreNeverReset(TwoClasses, caught_by="metrics_reset"):
    measures = (("accuracy", KeepsCounting),)


class MeanOfPerplexities(CrossEntropy):
    """Of the batches, each of which counts the same."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total += self.values(outputs, targets).mean().exp()
        self.count += 1


class MetricsAreMeansOfBatches(NextToken, caught_by="metrics_add_up"):
    measures = (("perplexity", MeanOfPerplexities),)


class ModeIsWrong(TwoClasses, caught_by="mode_is_right"):
    mode = "min"
