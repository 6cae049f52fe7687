"""Tasks with one fault each, in the head or the loss."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection

from seqlab import Batch, Task

from ..good_sequences import NextToken, Parity, RunningSum
from ..good_tasks import Mean, TwoClasses, steps_of


class HeadOfOne(TwoClasses):
    def head(self, features: int) -> nn.Module:
        return nn.Linear(features, 1)


class LossOfEachRow(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="none")


class LossWithoutGradient(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs.argmax(-1) != batch.targets).float().mean()


class LossOfZeroProbability(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return -outputs.clamp(0, 1).log().gather(1, batch.targets.unsqueeze(1)).mean()


class Backwards(torch.autograd.Function):
    """The identity, with a gradient of the wrong sign."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return -gradient


class LossRisesAlongItsGradient(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().loss(Backwards.apply(outputs), batch)


class LossOfTheOtherClass(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, 1 - batch.targets)


class LossIsARunningMean(TwoClasses):
    so_far = 0.0

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = 0.9 * self.so_far + 0.1 * super().loss(outputs, batch)
        self.so_far = float(loss.detach())
        return loss


class LossMarksTargets(NextToken):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = super().loss(outputs, batch)
        batch.targets[:, 0] = 0
        return loss


class LossOfTheFirstRow(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[:1], batch.targets[:1])


class LossCountsPadding(RunningSum):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(outputs, batch.targets[:, : outputs.shape[1]].nan_to_num())


class GradientOfPaddingIsNaN(RunningSum):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        error = (outputs - batch.targets[:, : outputs.shape[1]]).square()
        return error[steps_of(batch)].mean()


class LossWantsTheLongest(Parity):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)


class WidePaddedTargets(Mean):
    """Takes the mark of padding for a class that was missed."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets[:, : outputs.shape[1]]).double()


class MetricsCountPadding(Parity):
    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": WidePaddedTargets()})


CAUGHT: list[tuple[type[Task], str]] = [
    (HeadOfOne, "head_gives_the_outputs"),
    (LossOfEachRow, "loss_is_a_finite_scalar"),
    (LossWithoutGradient, "loss_is_a_finite_scalar"),
    (LossOfZeroProbability, "loss_is_a_finite_scalar"),
    (LossRisesAlongItsGradient, "loss_falls_along_its_gradient"),
    (LossOfTheOtherClass, "loss_prefers_the_truth"),
    (LossIsARunningMean, "loss_has_no_memory"),
    (LossMarksTargets, "loss_has_no_memory"),
    (LossOfTheFirstRow, "loss_takes_rows_in_any_order"),
    (LossCountsPadding, "padding_does_not_count"),
    (GradientOfPaddingIsNaN, "padding_does_not_count"),
    (LossWantsTheLongest, "padding_does_not_count"),
    (MetricsCountPadding, "padding_does_not_count"),
]
"""Each fault, and the check that must find it."""
