"""Tasks with one fault each, in what a loss says of confident mistakes, or in its gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab import Batch, Task

from ..good_sequences import NextToken
from ..good_tasks import TwoClasses, Yes
from ..odd_tasks import Lengths, ManyLabels, Ordinal


class LossClampsScores(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.clamp(-10, 10), batch.targets)


class LossClampsProbabilities(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss(outputs.softmax(-1).clamp(min=1e-7).log(), batch.targets)


class LossAddsAnEpsilon(TwoClasses):
    """In float32 the score of a hopeless row has no gradient left."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss((outputs.softmax(-1) + 1e-8).log(), batch.targets)


class LossIsInfiniteWhenSure(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.nll_loss(outputs.softmax(-1).log(), batch.targets)


class LossOfProbabilities(Yes):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy(outputs.squeeze(1).sigmoid(), batch.targets.to(outputs.dtype))


class LossOfProbabilitiesOfLabels(ManyLabels):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        p = outputs.sigmoid().clamp(1e-6, 1 - 1e-6)
        return -(batch.targets * p.log() + (1 - batch.targets) * (1 - p).log()).mean()


class LossStopsAtLargeErrors(Lengths):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs.squeeze(1) - batch.targets).square().clamp(max=100).mean()


class LossSaturatesOrdinal(Ordinal):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().loss(5 * (outputs / 5).tanh(), batch)


class LossCutsWhatIsWrong(TwoClasses):
    """The gradient of rows whose class is missed is cut."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        wrong = (outputs.argmax(-1) != batch.targets).unsqueeze(1)
        return super().loss(torch.where(wrong, outputs.detach(), outputs), batch)


class LossDiffersWithoutGradient(TwoClasses):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        smoothing = 0.2 if torch.is_grad_enabled() else 0.0
        return F.cross_entropy(outputs, batch.targets, label_smoothing=smoothing)


class LossCutsTheNormaliser(NextToken):
    """The log of the sum is taken for a constant."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        own = outputs.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
        return (0.5 * (outputs.logsumexp(-1) + outputs.logsumexp(-1).detach()) - own).mean()


CAUGHT: list[tuple[type[Task], str]] = [
    (LossClampsScores, "loss_learns_from_mistakes"),
    (LossClampsProbabilities, "loss_learns_from_mistakes"),
    (LossAddsAnEpsilon, "loss_learns_from_mistakes"),
    (LossIsInfiniteWhenSure, "loss_learns_from_mistakes"),
    (LossOfProbabilities, "loss_learns_from_mistakes"),
    (LossOfProbabilitiesOfLabels, "loss_learns_from_mistakes"),
    (LossStopsAtLargeErrors, "loss_learns_from_mistakes"),
    (LossSaturatesOrdinal, "loss_learns_from_mistakes"),
    (LossCutsWhatIsWrong, "loss_learns_from_mistakes"),
    (LossCutsWhatIsWrong, "loss_gradient_is_its_derivative"),
    (LossDiffersWithoutGradient, "loss_gradient_is_its_derivative"),
    (LossCutsTheNormaliser, "loss_gradient_is_its_derivative"),
]
"""Each fault, and the check that must find it."""
