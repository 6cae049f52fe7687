"""The head of a large vocabulary, whose scores of all tokens are never in memory at once."""

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING = 0
SCORES = 2_000_000
"""Scores that are in memory at once: 8 MB of them are read and written in the cache's neighbourhood."""


@final
class LargeHead(nn.Linear):
    r"""A linear head that computes its own training loss, some rows at a time.

    .. math:: L = -\frac 1 N \sum_n \ln \mathrm{softmax}(W y_n + b)_{u_n}

    The gradient is computed with the loss, piece by piece, so that a window of 64 streams, 100 steps and 10,000 tokens
    needs 8 MB for scores instead of three times 256 (the idea: Wijmans et al. 2024, arXiv 2411.09009; the code:
    :func:`torch.nn.functional.linear_cross_entropy`). Older versions of torch, and autocast, take the whole at once.

    Args:
        features: what it reads.
        outputs: number of token ids.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        rows = max(32, SCORES // outputs)
        made: Any = getattr(nn, "LinearCrossEntropyOptions", None)
        self._options = None if made is None else made(batch_chunk_size=rows, chunking_method=None)

    def forward(self, features: Tensor) -> Tensor:
        """Pass the features on while in training mode, for :meth:`loss`; else give the scores of all ids."""
        return features if self.training else super().forward(features)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean cross-entropy of the targets that are no padding."""
        rows, wanted = features.flatten(0, -2), targets.flatten()
        if self._options is None or torch.is_autocast_enabled(rows.device.type):
            return F.cross_entropy(super().forward(rows), wanted, ignore_index=PADDING)
        loss: Tensor = F.linear_cross_entropy(
            rows, self.weight, wanted, linear_bias=self.bias, ignore_index=PADDING, options=self._options
        )
        return loss
