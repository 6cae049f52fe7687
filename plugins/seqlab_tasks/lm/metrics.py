"""Metrics of a language model, from logits over the next token."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection

PADDING = 0


class TokenLoss(Metric):
    """Mean cross-entropy of the targets in nats; targets of 0 are padding and count for nothing."""

    full_state_update = False
    plot_lower_bound = 0.0
    nats: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: logits ``[..., ids]`` and targets ``[...]``."""
        losses = F.cross_entropy(
            outputs.flatten(0, -2).float(), targets.flatten(), ignore_index=PADDING, reduction="sum"
        )
        self.nats += losses.double()
        self.tokens += (targets != PADDING).sum()

    def compute(self) -> Tensor:
        """Compute the mean."""
        return (self.nats / self.tokens).float()


@final
class Perplexity(TokenLoss):
    r""":math:`\exp` of the mean cross-entropy."""

    def compute(self) -> Tensor:
        """Compute it."""
        return super().compute().exp()


@final
class LossByPosition(Metric):
    """At each position of a window: sum of the cross-entropy, number of tokens, sum of squares, ``[3, window]``."""

    full_state_update = False
    sums: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(3, window, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: logits ``[rows, steps, ids]`` and targets ``[rows, steps]``."""
        losses = F.cross_entropy(
            outputs.flatten(0, -2).float(), targets.flatten(), ignore_index=PADDING, reduction="none"
        )
        losses, steps = losses.view_as(targets).double(), targets.shape[1]
        self.sums[0, :steps] += losses.sum(0)
        self.sums[2, :steps] += losses.square().sum(0)
        self.sums[1, :steps] += (targets != PADDING).sum(0)

    def compute(self) -> Tensor:
        """Give the sums."""
        return self.sums


def language_metrics() -> MetricCollection:
    """Make perplexity and loss, which share one update a batch."""
    return MetricCollection({"perplexity": Perplexity(), "loss": TokenLoss()})
