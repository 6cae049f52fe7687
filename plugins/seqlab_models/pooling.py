"""Pooling of the outputs of all time steps to one vector per sequence.

Outputs are ``[time, batch, features]`` and zero on padding; lengths are ``[batch]``, or ``None`` if every row fills all
steps. A row of length 0 gives zeros.
"""

from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqlab.recurrence import last_of_each, last_valid


def mean(
    outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch features"]:
    """Return the mean over each row's valid steps."""
    total = outputs.sum(0)
    if lengths is None:
        return total / max(1, len(outputs))
    return total / lengths.clamp(min=1).unsqueeze(1).to(total.dtype)


def maximum(
    outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch features"]:
    """Return each feature's maximum over the row's valid steps."""
    time, batch, features = outputs.shape
    if time == 0:
        return outputs.new_zeros(batch, features)
    if lengths is None:
        return outputs.amax(0)
    padding = torch.arange(time, device=outputs.device).unsqueeze(1) >= lengths
    largest = outputs.masked_fill(padding.unsqueeze(2), -torch.inf).amax(0)
    return largest.masked_fill((lengths == 0).unsqueeze(1), 0)


Kind = Literal["last", "mean", "max", "attention"]


@final
class Pool(nn.Module):
    """Pooling of whole sequences, or of consecutive chunks.

    Args:
        kind: of pooling.
        features: of an output step.
        forward_size: number of features of the forward direction.
    """

    def __init__(self, kind: Kind, features: int, forward_size: int) -> None:
        super().__init__()
        self.kind, self.forward_size = kind, forward_size
        self.attention = Attention(features) if kind == "attention" else None

    def forward(
        self, outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        """Return the pooled outputs, and the logarithm of each row's weight among the chunks (:meth:`join`)."""
        if self.attention is not None:
            pooled, weight = self.attention(outputs, lengths)
            return pooled, weight
        weight = self.weight(outputs, lengths)
        if self.kind == "last":
            return last_of_each(outputs, lengths, self.forward_size), weight
        return (mean if self.kind == "mean" else maximum)(outputs, lengths), weight

    @staticmethod
    def weight(
        outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, " batch"]:
        """Return the logarithm of each row's weight among the chunks without attention: its number of steps."""
        steps = outputs.new_full((outputs.shape[1],), len(outputs)) if lengths is None else lengths.to(outputs.dtype)
        return steps.log()

    def join(
        self, pooled: Float[Tensor, "chunks batch features"], weights: Float[Tensor, "chunks batch"]
    ) -> Float[Tensor, "batch features"]:
        """Combine pooled chunks; equal to pooling the whole rows, in one direction.

        Args:
            pooled: of each chunk.
            weights: of each chunk, as logarithms; minus infinity after a row's end.
        """
        valid = (weights > -torch.inf).sum(0)
        if self.kind == "max":
            return maximum(pooled, valid)
        if self.kind == "last":
            return last_valid(pooled, valid)
        share = weights.clamp(min=torch.finfo(weights.dtype).min).softmax(0)
        return (share.unsqueeze(2) * pooled).sum(0)  # a row without steps is zero in every chunk


@final
class Attention(nn.Module):
    r"""Average over each row's valid steps, weighted by a learned softmax (Yang et al. 2016, equations 5 to 7).

    .. math::
        s_t = v^\top \tanh(W y_t + b), \quad \alpha_t = \frac{e^{s_t}}{\sum_{t'} e^{s_{t'}}}, \quad
        p = \sum_t \alpha_t y_t

    Args:
        features: of an output step.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, features)
        self.score = nn.Linear(features, 1, bias=False)

    def forward(
        self, outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        r"""Pool.

        Returns:
            The weighted averages, and :math:`\ln \sum_t e^{s_t}` of each row, whose softmax weights the averages of
            chunks. It is minus infinity for a row of length 0.
        """
        time, batch, features = outputs.shape
        if time == 0:
            return outputs.new_zeros(batch, features), outputs.new_full((batch,), -torch.inf)
        if lengths is not None:
            padding = torch.arange(time, device=outputs.device).unsqueeze(1) >= lengths
            outputs = outputs.masked_fill(padding.unsqueeze(2), 0)
        scores = self.score(torch.tanh(self.project(outputs))).squeeze(2)
        if lengths is None:
            return (scores.softmax(0).unsqueeze(2) * outputs).sum(0), scores.logsumexp(0)
        # Finite, since the softmax of a row of minus infinities is NaN, and so is its gradient.
        scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
        pooled = (scores.softmax(0).unsqueeze(2) * outputs).sum(0)
        return pooled, scores.logsumexp(0).masked_fill(lengths == 0, -torch.inf)
