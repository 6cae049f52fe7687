"""Tasks with one fault each, in the loss."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection

from seqlab import Batch

from ..good_sequences import IGNORED, NextToken, Parity, RunningSum
from ..good_tasks import Mean, TwoClasses, Yes, steps_of
from ..odd_tasks import Lengths, ManyLabels, Ordinal, Tagging, TwoNumbers


class HeadOfOne(TwoClasses, caught_by="head_gives_the_outputs"):
    def head(self, features: int) -> nn.Module:
        return nn.Linear(features, 1)


class LossOfEachRow(TwoClasses, caught_by="loss_is_a_finite_scalar"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="none")


class LossWithoutGradient(TwoClasses, caught_by="loss_is_a_finite_scalar"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs.argmax(-1) != batch.targets).float().mean()


class LossOfZeroProbability(TwoClasses, caught_by="loss_is_a_finite_scalar"):
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


class LossRisesAlongItsGradient(TwoClasses, caught_by="loss_gradient_is_its_derivative"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().loss(Backwards.apply(outputs), batch)


class LossOfTheOtherClass(TwoClasses, caught_by="loss_prefers_the_truth"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, 1 - batch.targets)


class LossIsARunningMean(TwoClasses, caught_by="loss_has_no_memory"):
    so_far = 0.0

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = 0.9 * self.so_far + 0.1 * super().loss(outputs, batch)
        self.so_far = float(loss.detach())
        return loss


class LossMarksTargets(NextToken, caught_by="nothing_changes_in_place"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = super().loss(outputs, batch)
        batch.targets[:, 0] = 0
        return loss


class LossOfTheFirstRow(TwoClasses, caught_by="every_row_counts_alike"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[:1], batch.targets[:1])


class LossCountsPadding(RunningSum, caught_by="padding_does_not_count"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(outputs, batch.targets[:, : outputs.shape[1]].nan_to_num())


class GradientOfPaddingIsNaN(RunningSum, caught_by="padding_does_not_count"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        error = (outputs - batch.targets[:, : outputs.shape[1]]).square()
        return error[steps_of(batch)].mean()


class LossWantsTheLongest(Parity, caught_by="padding_does_not_count"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)


class WidePaddedTargets(Mean):
    """Takes the mark of padding for a class that was missed."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets[:, : outputs.shape[1]]).double()


class MetricsCountPadding(Parity, caught_by="padding_does_not_count"):
    measures = (("accuracy", WidePaddedTargets),)


class LossIsASum(TwoClasses, caught_by="loss_is_a_mean"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="sum")


class LossSumsOverTime(NextToken, caught_by="loss_is_a_mean"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        losses = F.cross_entropy(outputs.transpose(1, 2), batch.targets, reduction="none")
        return losses.sum(1).mean()


class LossIsAMeanOfRows(Tagging, caught_by="every_row_counts_alike"):
    """A step of a short row counts for more than one of a long row."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]]
        losses = F.cross_entropy(outputs.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        return (losses.sum(1) / (targets != IGNORED).sum(1).clamp(min=1)).mean()


class LossDividesByAllSteps(RunningSum, caught_by="loss_is_a_mean"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        steps = steps_of(batch)
        error = (outputs[steps] - batch.targets[:, : outputs.shape[1]][steps]).square()
        return error.sum() / outputs.numel()


class LossOfFullBlocks(TwoClasses, caught_by="every_row_counts_alike"):
    """The rows behind the last full block of 32 are left out."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        rows = max(len(outputs) // 32 * 32, min(len(outputs), 32))
        return F.cross_entropy(outputs[:rows], batch.targets[:rows])


class LossForgetsTheLastStep(NextToken, caught_by="every_row_counts_alike"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[:, :-1].flatten(0, 1), batch.targets[:, : outputs.shape[1] - 1].flatten())


class LossOfTheFirstHundredSteps(NextToken, caught_by="every_row_counts_alike"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[:, :100].flatten(0, 1), batch.targets[:, :100].flatten())


class LossIgnoresClassZero(Parity, caught_by="every_row_counts_alike"):
    """Taken for padding."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]].clamp(min=0)
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=0)


class LossBroadcasts(Lengths, caught_by="loss_is_a_mean"):
    """One column of outputs against a row of targets: each output is compared with each target."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs - batch.targets).square().mean()


class LossWeighsByPlace(TwoClasses, caught_by="every_row_counts_alike"):
    """By weights in the order of the training split, whatever the loader did to it."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        weights = torch.linspace(0.5, 1.5, 300)[: len(outputs)]
        return (F.cross_entropy(outputs, batch.targets, reduction="none") * weights).mean()


class LossStandardisesItsTargets(Lengths, caught_by="loss_is_a_mean"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = (batch.targets - batch.targets.mean()) / batch.targets.std().clamp(min=1e-3)
        return F.mse_loss(outputs.squeeze(1), targets)


class LossMixesRows(TwoClasses, caught_by="loss_is_a_mean"):
    """Softmax over the batch in place of the classes."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss(outputs.log_softmax(0), batch.targets)


class LossOfTheHardest(TwoClasses, caught_by="loss_is_a_mean"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        losses = F.cross_entropy(outputs, batch.targets, reduction="none")
        return losses.topk(max(1, len(losses) // 2)).values.mean()


class LossBalancesTheBatch(TwoClasses, caught_by="classes_weigh_the_same_in_any_batch"):
    """By how many of each class a batch happens to have."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        weights = 1 / torch.bincount(batch.targets, minlength=2).clamp(min=1)
        losses = F.cross_entropy(outputs, batch.targets, reduction="none") * weights[batch.targets]
        return losses.sum() / weights[batch.targets].sum()


class LossOfOneOutput(TwoNumbers, caught_by="loss_is_a_finite_scalar"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.l1_loss(outputs[:, :1], batch.targets[:, :1])


class LossSmoothsPadding(Tagging, caught_by="padding_does_not_count"):
    """What smoothing adds is a mean over all steps."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 0.9 * super().loss(outputs, batch) - 0.1 * outputs.log_softmax(-1).mean()


class PaddingIsTheFirstClass(Tagging, caught_by="padding_does_not_count"):
    """Metrics take padding for class 0, which a model may well give there."""

    def metrics(self) -> MetricCollection:
        class Clamped(type(super().metrics()["accuracy"])):  # type: ignore[misc]  # a class that is found
            def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
                return (outputs.argmax(-1) == targets[:, : outputs.shape[1]].clamp(min=0)).double()

        return MetricCollection({"accuracy": Clamped()})


class LossClampsScores(TwoClasses, caught_by="loss_learns_from_mistakes"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.clamp(-10, 10), batch.targets)


class LossClampsProbabilities(TwoClasses, caught_by="loss_learns_from_mistakes"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss(outputs.softmax(-1).clamp(min=1e-7).log(), batch.targets)


class LossAddsAnEpsilon(TwoClasses, caught_by="loss_learns_from_mistakes"):
    """In float32 the score of a hopeless row has no gradient left."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss((outputs.softmax(-1) + 1e-8).log(), batch.targets)


class LossIsInfiniteWhenSure(TwoClasses, caught_by="loss_learns_from_mistakes"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss(outputs.softmax(-1).log(), batch.targets)


class LossOfProbabilities(Yes, caught_by="loss_learns_from_mistakes"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy(outputs.squeeze(1).sigmoid(), batch.targets.to(outputs.dtype))


class LossOfProbabilitiesOfLabels(ManyLabels, caught_by="loss_learns_from_mistakes"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        p = outputs.sigmoid().clamp(1e-6, 1 - 1e-6)
        return -(batch.targets * p.log() + (1 - batch.targets) * (1 - p).log()).mean()


class LossStopsAtLargeErrors(Lengths, caught_by="loss_learns_from_mistakes"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs.squeeze(1) - batch.targets).square().clamp(max=100).mean()


class LossSaturatesOrdinal(Ordinal, caught_by="loss_learns_from_mistakes"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().loss(5 * (outputs / 5).tanh(), batch)


class LossCutsWhatIsWrong(TwoClasses, caught_by=("loss_learns_from_mistakes", "loss_gradient_is_its_derivative")):
    """The gradient of rows whose class is missed is cut."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        wrong = (outputs.argmax(-1) != batch.targets).unsqueeze(1)
        return super().loss(torch.where(wrong, outputs.detach(), outputs), batch)


class LossDiffersWithoutGradient(TwoClasses, caught_by="loss_gradient_is_its_derivative"):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        smoothing = 0.2 if torch.is_grad_enabled() else 0.0
        return F.cross_entropy(outputs, batch.targets, label_smoothing=smoothing)


class LossCutsTheNormaliser(NextToken, caught_by="loss_gradient_is_its_derivative"):
    """The log of the sum is taken for a constant."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        own = outputs.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
        return (0.5 * (outputs.logsumexp(-1) + outputs.logsumexp(-1).detach()) - own).mean()
