"""Tasks that are right, and unlike those that are shipped: none of them may be accused."""

import random
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelF1Score

from seqlab import Batch, Examples, Ragged

from .good_sequences import StepAccuracy
from .good_tasks import IGNORED, SPLITS, Mean, MeanState, NoState, Small, TwoClasses, positive


class Error(Mean):
    """Mean squared error of one number a sequence."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(1) - targets).square().double()


class Lengths(MeanState, Small):
    """Regression with one output: what is the mean of the first feature, times 10? By Huber's loss."""

    sequence_length_means = "distance"

    def __init__(self, sequence_length: int = 6) -> None:
        self.sequence_length = positive(sequence_length)

    monitor = "error"
    mode = "min"
    outputs = 1

    def splits(self) -> Mapping[str, Examples]:
        made = {}
        for seed, (name, rows) in enumerate(zip(SPLITS, (90, 30, 30), strict=True)):
            generator = torch.Generator().manual_seed(seed)
            lengths = torch.randint(self.sequence_length, self.sequence_length + 4, (rows,), generator=generator)
            parts = [torch.randn(length, 3, generator=generator) for length in lengths.tolist()]
            made[name] = Examples(Ragged.of(parts), self.targets_of(torch.stack([part.mean(0) for part in parts])))
        self.mean = float(made["train"].targets.float().mean())
        self.change(made)
        return made

    def targets_of(self, means: Tensor) -> Tensor:
        return 10 * means[:, 0]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.huber_loss(outputs.squeeze(1), batch.targets)

    measures = (("error", Error),)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.full((len(batch.inputs), 1), self.mean)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.tolist()


class Counts(Lengths):
    """Whole numbers from one output, the log of a rate (Poisson)."""

    def targets_of(self, means: Tensor) -> Tensor:
        return (means[:, 0].exp() * 4).round().long()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.poisson_nll_loss(outputs.squeeze(1), batch.targets.float())

    def metrics(self) -> MetricCollection:
        class RateError(Error):
            def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
                return super().values(outputs.exp(), targets)

        return MetricCollection({"error": RateError()})

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.full((len(batch.inputs), 1), self.mean).log()


class Ordinal(Lengths):
    """Four classes in their order and three outputs, each the score of being above one (cumulative logits)."""

    outputs = 3

    def targets_of(self, means: Tensor) -> Tensor:
        return torch.bucketize(means[:, 0].contiguous(), torch.tensor([-0.3, 0.0, 0.4]))

    def above(self, targets: Tensor) -> Tensor:
        return (targets.unsqueeze(1) > torch.arange(3)).float()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, self.above(batch.targets))

    def metrics(self) -> MetricCollection:
        class Steps(Mean):
            def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
                return ((outputs > 0).sum(1) - targets).abs().double()

        return MetricCollection({"error": Steps()})

    def blind_outputs(self, batch: Batch) -> Tensor:
        return (torch.full((3,), self.mean - 0.5) - torch.arange(3)).expand(len(batch.inputs), 3)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return (outputs > 0).sum(1).tolist()


class TwoNumbers(Lengths):
    """Two outputs for two numbers, by the absolute error."""

    outputs = 2

    def targets_of(self, means: Tensor) -> Tensor:
        return means[:, :2] * 3 + 5

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.l1_loss(outputs, batch.targets)

    measures = (("error", MeanAbsoluteError),)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.full((len(batch.inputs), 2), self.mean)


class ManyLabels(Lengths):
    """Several labels at once (binary cross-entropy)."""

    outputs = 3
    monitor = "f1"
    mode = "max"

    def targets_of(self, means: Tensor) -> Tensor:
        return (means > 0).float()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, batch.targets)

    measures = (("f1", lambda: MultilabelF1Score(3)),)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.full((len(batch.inputs), 3), 1.0)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return [[index for index, score in enumerate(row) if score > 0] for row in outputs.tolist()]


class Weighted(TwoClasses):
    """Torch's own weights, which are divided by their sum over the batch."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, weight=1 / torch.tensor(self.shares))


class Focal(TwoClasses):
    """Focal loss (Lin et al. 2017), smoothed labels, and a head of two layers with dropout."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        losses = F.cross_entropy(outputs, batch.targets, reduction="none", label_smoothing=0.05)
        return ((1 - (-losses).exp()) ** 2 * losses).mean()

    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 2))


class Margin(TwoClasses):
    """Hinge loss: a target that is far on the right side has no gradient."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.multi_margin_loss(outputs, batch.targets)


class NewClassInTest(TwoClasses):
    """A third class that test alone has."""

    names = ("without", "with", "empty")

    def splits(self) -> Mapping[str, Examples]:
        made = dict(super().splits())
        test = made["test"]
        made["test"] = Examples([*test.inputs, "ccccccccc"], torch.cat([test.targets, torch.tensor([2])]))  # type: ignore[misc]  # its inputs are texts
        counts = torch.bincount(made["train"].targets, minlength=3) + 1
        self.shares = (counts / counts.sum()).tolist()
        self.change(made)
        return made

    measures = (("accuracy", lambda: MulticlassAccuracy(3, average="micro")),)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares).log().expand(len(batch.inputs), 3)


class Tagging(NoState, Small):
    """A tag for each token of sentences of 1 to 30 tokens: which of the last two was larger? Class 0 is one of them."""

    per_step = True
    sequence_length_means = "maximum"

    def __init__(self, sequence_length: int | None = None, split_seed: int = 0) -> None:
        self.sequence_length, self.split_seed = positive(sequence_length), split_seed

    monitor = "accuracy"
    outputs = 3

    def splits(self) -> Mapping[str, Examples]:
        draw = random.Random(0)
        rows = sorted({tuple(draw.choices(range(1, 9), k=draw.choice((1, 2, 5, 8, 13, 30)))) for _ in range(160)})
        random.Random(self.split_seed).shuffle(rows)
        made = {}
        for name, part in zip(SPLITS, (rows[:90], rows[90:120], rows[120:]), strict=True):
            targets = torch.full((len(part), max(map(len, part))), IGNORED)
            for row, ids in enumerate(part):
                tags = [1 + (now > before) - (now < before) for before, now in zip((ids[0], *ids), ids, strict=False)]
                targets[row, : len(ids)] = torch.tensor(tags)
            made[name] = Examples(Ragged.of([torch.tensor(ids) for ids in part]), targets)
        self.change(made)
        return made

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]]
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    measures = (("accuracy", StepAccuracy),)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor([0.1, 0.0, 0.1]).expand(*batch.inputs.shape[:2], 3)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.argmax(-1).tolist()


class MaskedTagging(Tagging):
    """The same with the loss of steps that are chosen by length, and class weights of each step."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]]
        real = targets != IGNORED
        weights = torch.tensor([2.0, 0.5, 1.0])[targets[real]]
        losses = F.cross_entropy(outputs[real], targets[real], reduction="none")
        return (losses * weights).mean()


class Windows(Lengths):
    """What is the next value of a random walk? Each split has windows of a stretch of its own."""

    def windows(self, low: int, high: int) -> Examples:
        steps = self.sequence_length or 6
        walk = torch.randn(330, 2, generator=torch.Generator().manual_seed(5)).cumsum(0)
        made = walk[low:high].unfold(0, steps + 1, 1).transpose(1, 2)
        return Examples(Ragged.of(list(made[:, :-1])), made[:, -1, 0].clone())

    def splits(self) -> Mapping[str, Examples]:
        stretches = {"train": (0, 190), "valid": (190, 260), "test": (260, 330)}
        made = {name: self.windows(*stretch) for name, stretch in stretches.items()}
        self.mean = float(made["train"].targets.mean())
        self.change(made)
        return made


LongTagging = partial(Tagging, sequence_length=4)

RIGHT: list[Any] = [
    Lengths, Counts, Ordinal, TwoNumbers, ManyLabels, Weighted, Focal, Margin, NewClassInTest, Tagging, MaskedTagging,
    Windows,
]  # fmt: skip
