"""Metrics of the generated tasks."""

from abc import ABC, abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class Averaged(Metric, ABC):
    """The mean of something over all that counts."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give what is averaged, for all that counts in a batch."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        values = self.values(outputs.float(), targets)
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """Compute the mean."""
        return (self.total / self.count).float()


@final
class MeanSquaredError(Averaged):
    """Mean squared error of one number a sequence."""

    higher_is_better = False

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Square the errors of outputs ``[batch, 1]``."""
        return (outputs.squeeze(-1) - targets).square()


@final
class WithinTolerance(Averaged):
    """Share of the numbers that are off by no more than a tolerance.

    Args:
        tolerance: the largest error that passes.
    """

    higher_is_better = True

    def __init__(self, tolerance: float) -> None:
        super().__init__()
        self.tolerance = tolerance

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Say which pass."""
        return (outputs.squeeze(-1) - targets).abs() <= self.tolerance


@final
class AccuracyOfRecalled(Averaged):
    """Share of the steps with a target above 0 whose class is the likeliest; class 0 is the blank."""

    higher_is_better = True

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Say which are right, of outputs ``[batch, time, classes]``."""
        return (outputs.argmax(-1) == targets)[targets > 0]


@final
class CrossEntropyOfSteps(Averaged):
    """Mean negative log-probability of the true class over all steps, in nats."""

    higher_is_better = False

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute it of each step."""
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
