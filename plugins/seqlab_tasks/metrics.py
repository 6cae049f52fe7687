"""Metrics of a classification, from class scores before softmax."""

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix


class Confusion(MulticlassConfusionMatrix):
    """Counts ``[true class, predicted class]``; what is computed from them shares one update a batch."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, validate_args=False)


@final
class Accuracy(Confusion):
    """Share of the examples whose class is the predicted one."""

    def compute(self) -> Tensor:
        """Compute the share."""
        counts = super().compute()
        return counts.diagonal().sum() / counts.sum()


@final
class BalancedAccuracy(Confusion):
    """Mean over the classes that occur of the share of each that is found (recall)."""

    def compute(self) -> Tensor:
        """Compute the mean."""
        counts = super().compute()
        there = counts.sum(1) > 0
        return (counts.diagonal() / counts.sum(1))[there].mean()


@final
class MacroF1(Confusion):
    r"""Mean over the classes that occur of ``F1 = 2 hits / (true + predicted)``."""

    def compute(self) -> Tensor:
        """Compute the mean."""
        counts = super().compute()
        there = counts.sum(1) > 0
        return (2 * counts.diagonal() / (counts.sum(0) + counts.sum(1)))[there].mean()


@final
class CalibrationError(Metric):
    r"""How far confidence is from accuracy: ``Σ_b n_b/n |accuracy_b - confidence_b|`` over 15 bins of confidence.

    The sum of each bin is kept, where torchmetrics' own keeps every example.
    """

    full_state_update = False
    higher_is_better = False
    bins = 15
    gaps: Tensor
    examples: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("gaps", torch.zeros(self.bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        confidence, predicted = outputs.float().softmax(1).max(1)
        gap = (predicted == targets).double() - confidence
        where = (confidence * self.bins).long().clamp_(max=self.bins - 1)
        member = where.unsqueeze(1) == torch.arange(self.bins, device=where.device)  # bincount's sums vary on a GPU
        self.gaps += gap @ member.double()
        self.examples += len(targets)

    def compute(self) -> Tensor:
        """Compute the weighted mean of the bins' gaps."""
        return (self.gaps.abs().sum() / self.examples).float()


@final
class CrossEntropy(Metric):
    """Mean negative log-probability of the true class, in nats; neither weighted nor smoothed."""

    full_state_update = False
    higher_is_better = False
    total: Tensor
    examples: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        self.total += F.cross_entropy(outputs.float(), targets, reduction="sum")
        self.examples += len(targets)

    def compute(self) -> Tensor:
        """Compute the mean."""
        return (self.total / self.examples).float()


def classification_metrics(classes: int) -> MetricCollection:
    """Make the scalar metrics: one pass over the counts serves the first three."""
    return MetricCollection(
        {
            "accuracy": Accuracy(classes),
            "balanced_accuracy": BalancedAccuracy(classes),
            "macro_f1": MacroF1(classes),
            "calibration_error": CalibrationError(),
            "loss": CrossEntropy(),
        },
        compute_groups=[["accuracy", "balanced_accuracy", "macro_f1"], ["calibration_error"], ["loss"]],
    )
