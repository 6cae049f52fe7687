"""Tasks with one fault each, in what a loss takes the mean of."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, Task

from ..good_sequences import IGNORED, NextToken, Parity, RunningSum
from ..good_tasks import TwoClasses, steps_of
from ..odd_tasks import Lengths, Tagging, TwoNumbers


class LossIsASum(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="sum")


class LossSumsOverTime(NextToken):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        losses = F.cross_entropy(outputs.transpose(1, 2), batch.targets, reduction="none")
        return losses.sum(1).mean()


class LossIsAMeanOfRows(Tagging):
    """A step of a short row counts for more than one of a long row."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]]
        losses = F.cross_entropy(outputs.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        return (losses.sum(1) / (targets != IGNORED).sum(1).clamp(min=1)).mean()


class LossDividesByAllSteps(RunningSum):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        steps = steps_of(batch)
        error = (outputs[steps] - batch.targets[:, : outputs.shape[1]][steps]).square()
        return error.sum() / outputs.numel()


class LossOfFullBlocks(TwoClasses):
    """The rows behind the last full block of 32 are left out."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        rows = max(len(outputs) // 32 * 32, min(len(outputs), 32))
        return F.cross_entropy(outputs[:rows], batch.targets[:rows])


class LossForgetsTheLastStep(NextToken):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[:, :-1].flatten(0, 1), batch.targets[:, : outputs.shape[1] - 1].flatten())


class LossOfTheFirstHundredSteps(NextToken):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[:, :100].flatten(0, 1), batch.targets[:, :100].flatten())


class LossIgnoresClassZero(Parity):
    """Taken for padding."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]].clamp(min=0)
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=0)


class LossBroadcasts(Lengths):
    """One column of outputs against a row of targets: each output is compared with each target."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs - batch.targets).square().mean()


class LossWeighsByPlace(TwoClasses):
    """By weights in the order of the training split, whatever the loader did to it."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        weights = torch.linspace(0.5, 1.5, 300)[: len(outputs)]
        return (F.cross_entropy(outputs, batch.targets, reduction="none") * weights).mean()


class LossStandardisesItsTargets(Lengths):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = (batch.targets - batch.targets.mean()) / batch.targets.std().clamp(min=1e-3)
        return F.mse_loss(outputs.squeeze(1), targets)


class LossMixesRows(TwoClasses):
    """Softmax over the batch in place of the classes."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss(outputs.log_softmax(0), batch.targets)


class LossOfTheHardest(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        losses = F.cross_entropy(outputs, batch.targets, reduction="none")
        return losses.topk(max(1, len(losses) // 2)).values.mean()


class LossBalancesTheBatch(TwoClasses):
    """By how many of each class a batch happens to have."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        weights = 1 / torch.bincount(batch.targets, minlength=2).clamp(min=1)
        losses = F.cross_entropy(outputs, batch.targets, reduction="none") * weights[batch.targets]
        return losses.sum() / weights[batch.targets].sum()


class LossOfOneOutput(TwoNumbers):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.l1_loss(outputs[:, :1], batch.targets[:, :1])


class LossSmoothsPadding(Tagging):
    """What smoothing adds is a mean over all steps."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 0.9 * super().loss(outputs, batch) - 0.1 * outputs.log_softmax(-1).mean()


class PaddingIsTheFirstClass(Tagging):
    """Metrics take padding for class 0, which a model may well give there."""

    def metrics(self) -> MetricCollection:
        class Clamped(type(super().metrics()["accuracy"])):  # type: ignore[misc]  # a class that is found
            def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
                return (outputs.argmax(-1) == targets[:, : outputs.shape[1]].clamp(min=0)).double()

        return MetricCollection({"accuracy": Clamped()})


CAUGHT: list[tuple[type[Task], str]] = [
    (LossIsASum, "loss_is_a_mean"),
    (LossSumsOverTime, "loss_is_a_mean"),
    (LossIsAMeanOfRows, "every_row_counts_alike"),
    (LossDividesByAllSteps, "loss_is_a_mean"),
    (LossOfFullBlocks, "every_row_counts_alike"),
    (LossForgetsTheLastStep, "every_row_counts_alike"),
    (LossOfTheFirstHundredSteps, "every_row_counts_alike"),
    (LossIgnoresClassZero, "every_row_counts_alike"),
    (LossBroadcasts, "loss_is_a_mean"),
    (LossWeighsByPlace, "every_row_counts_alike"),
    (LossStandardisesItsTargets, "loss_is_a_mean"),
    (LossMixesRows, "loss_is_a_mean"),
    (LossOfTheHardest, "loss_is_a_mean"),
    (LossBalancesTheBatch, "classes_weigh_the_same_in_any_batch"),
    (LossOfOneOutput, "loss_is_a_finite_scalar"),
    (LossSmoothsPadding, "padding_does_not_count"),
    (PaddingIsTheFirstClass, "padding_does_not_count"),
]
"""Each fault, and the check that must find it."""
