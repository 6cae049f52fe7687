"""Losses of language models: heads that compute their own loss, metrics, and loss by position."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from seqlab_tasks.metrics import AverageLoss

PADDING = 0
SCORES = 2_000_000
"""Scores in memory at once: 8 MB, about the size of the cache."""


@final
class AdaptiveHead(nn.Module):
    """Adaptive softmax (Grave et al. 2017, arXiv 1609.04309): rare tokens in clusters with fewer features.

    Args:
        features: number of input features.
        outputs: number of token ids, sorted by falling frequency.
        cutoffs: the first id of each cluster.

    Raises:
        ValueError: the cutoffs do not ascend, or are out of range.
    """

    skips_parameters = True  # of clusters without a token in the batch

    def __init__(self, features: int, outputs: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        ascending = all(low < high for low, high in zip([0, *cutoffs], [*cutoffs, outputs], strict=True))
        if not ascending:
            raise ValueError(f"adaptive must ascend, with values > 0 and < {outputs}, got {list(cutoffs)}")
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(features, outputs, list(cutoffs))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features in training mode, for :meth:`loss`; otherwise log-probabilities of all ids."""
        if self.training:
            return features
        return self.softmax.log_prob(features.flatten(0, -2)).view(*features.shape[:-1], -1)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets without padding."""
        rows, wanted = features.flatten(0, -2), targets.flatten()
        valid = wanted != PADDING
        loss: Tensor = self.softmax(rows[valid], wanted[valid]).loss
        return loss


@final
class LargeHead(nn.Linear):
    r"""Linear head for a large vocabulary, which computes its training loss in chunks of rows.

    .. math:: L = -\frac 1 N \sum_n \ln \mathrm{softmax}(W y_n + b)_{u_n}

    The gradient is computed with the loss, chunk by chunk: a window of 64 streams, 100 steps and 10,000 tokens needs
    8 MB for scores instead of three times 256 MB (idea: Wijmans et al. 2024, arXiv 2411.09009; code:
    :func:`torch.nn.functional.linear_cross_entropy`). Older versions of torch, and autocast, use one chunk.

    Args:
        features: number of input features.
        outputs: number of token ids.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        rows = max(32, SCORES // outputs)
        options: Any = getattr(nn, "LinearCrossEntropyOptions", None)
        self._options = None if options is None else options(batch_chunk_size=rows, chunking_method=None)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features in training mode, for :meth:`loss`; otherwise the scores of all ids."""
        return features if self.training else super().forward(features)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets without padding."""
        rows, wanted = features.flatten(0, -2), targets.flatten()
        if self._options is None or torch.is_autocast_enabled(rows.device.type):
            return F.cross_entropy(super().forward(rows), wanted, ignore_index=PADDING)
        loss: Tensor = F.linear_cross_entropy(
            rows, self.weight, wanted, linear_bias=self.bias, ignore_index=PADDING, options=self._options
        )
        return loss


def cross_entropy(outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy of logits ``[..., ids]`` and targets ``[...]``, without padding."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=PADDING, reduction=reduction)


def token_losses(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy in nats, and the number of tokens, without padding."""
    return cross_entropy(outputs, targets, "sum"), (targets != PADDING).sum()


@final
class Perplexity(AverageLoss):
    r""":math:`\exp` of the mean cross-entropy."""

    def compute(self) -> Tensor:
        """Return the perplexity."""
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
        losses = cross_entropy(outputs.float(), targets, "none").view_as(targets).double()
        steps = targets.shape[1]
        self.sums[0, :steps] += losses.sum(0)
        self.sums[2, :steps] += losses.square().sum(0)
        self.sums[1, :steps] += (targets != PADDING).sum(0)

    def compute(self) -> Tensor:
        """Return the sums."""
        return self.sums


def language_metrics() -> MetricCollection:
    """Return perplexity and loss, which share one update per batch."""
    return MetricCollection({"perplexity": Perplexity(token_losses), "loss": AverageLoss(token_losses)})


def position_table(sums: Tensor) -> list[dict[str, Any]]:
    """Return the mean loss at each position: number of tokens read before, nats, their standard error, tokens."""
    return [
        {
            "tokens_before": position,
            "loss": nats / count,
            "standard_error": math.sqrt(max(0.0, squares / count - (nats / count) ** 2) / count),
            "tokens": int(count),
        }
        for position, (nats, count, squares) in enumerate(sums.t().tolist())
        if count
    ]


def draw_loss_by_position(sums: Tensor, path: Path) -> None:
    """Draw the loss over the position, on a logarithmic axis, with two standard errors to each side."""
    from matplotlib.figure import Figure

    rows = position_table(sums)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    where, loss = [row["tokens_before"] + 1 for row in rows], [row["loss"] for row in rows]
    low = [row["loss"] - 2 * row["standard_error"] for row in rows]
    high = [row["loss"] + 2 * row["standard_error"] for row in rows]
    axes.fill_between(where, low, high, alpha=0.2, linewidth=0, label="two standard errors")
    axes.plot(where, loss, linewidth=1.5)
    axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens read, including the current one")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title("Loss by position", loc="left")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
