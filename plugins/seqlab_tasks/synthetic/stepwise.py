"""Base class of tasks with a label at some or all time steps, and baselines that depend on the length alone."""

from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Batch
from seqlab_tasks.metrics import Average, AverageLoss
from seqlab_tasks.synthetic.generated import TokenLabels, metric_collection

MASKED = -1
"""Target of a step without a label; it counts neither in the loss nor in the metrics."""
_LEAST = 1e-12


class StepLabelled(TokenLabels, ABC):
    """A label at some or all steps of a sequence of tokens, trained with the mean cross-entropy of these steps.

    Targets are classes, and :data:`MASKED` at the other steps; padding of a ragged batch has the same mark.
    """

    per_step = True

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the labelled steps."""
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=MASKED)

    def metrics(self) -> MetricCollection:
        """Return accuracy and cross-entropy (nats) of the labelled steps."""
        return metric_collection(accuracy=Average(step_hits), loss=AverageLoss(labelled_cross_entropies))

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return equal scores for all labels."""
        return batch.inputs.new_zeros(*batch.inputs.shape, self.outputs, dtype=torch.float32)

    def labelled(self, steps: int) -> int:
        """Return how many of the last steps of a sequence :meth:`decode` shows; all unless overridden."""
        return steps

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the likeliest labels of the last :meth:`labelled` steps of each row, with spaces between."""
        steps = outputs.shape[1]
        ends = outputs[:, steps - self.labelled(steps) :].argmax(-1).tolist()
        return [" ".join(self.labels[index] for index in row) for row in ends]


def step_hits(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of labelled steps that are predicted, and the number of labelled steps."""
    labelled = targets != MASKED
    return ((outputs.argmax(-1) == targets) & labelled).sum(), labelled.sum()


def labelled_cross_entropies(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-probability of the labels, in nats, and the number of labelled steps."""
    losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=MASKED)
    return losses.double().sum(), (targets != MASKED).sum()


def row_lengths(batch: Batch) -> Tensor:
    """Return the steps of each row, ``[batch]``."""
    rows, time = batch.inputs.shape[:2]
    return torch.full((rows,), time) if batch.lengths is None else batch.lengths.cpu()


def outputs_by_length(batch: Batch, shares: Callable[[int], Sequence[float]]) -> Tensor:
    """Return the log-probability of each class for each row, ``[batch, classes]``.

    Args:
        batch: of which the lengths alone are used.
        shares: returns the probabilities of the classes for a length.
    """
    lengths, row = torch.unique(row_lengths(batch), return_inverse=True)
    table = torch.tensor([list(shares(length)) for length in lengths.tolist()], dtype=torch.float64)
    return table.clamp(min=_LEAST).log().float()[row].to(batch.inputs.device)
