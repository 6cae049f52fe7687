"""From the outputs of all time steps to one vector a sequence.

All take outputs ``[time, batch, features]`` that are zero on padding, and lengths ``[batch]`` or ``None`` where every
row fills all time steps. A row of length 0 gives zeros.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def last(
    outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None, forward_size: int
) -> Float[Tensor, "batch features"]:
    """Take what each direction says after it has read the whole row.

    Args:
        outputs: the forward features of each step, then the backward ones, if there are any.
        lengths: valid steps of each row.
        forward_size: number of forward features; they come from the row's last valid step, the others, which read
            from the end to the beginning, from the first step.
    """
    time, batch, features = outputs.shape
    if time == 0:
        return outputs.new_zeros(batch, features)
    if lengths is None:
        end = outputs[-1]
    else:
        rows = (lengths - 1).clamp(min=0) * batch + torch.arange(batch, device=outputs.device)
        end = outputs.flatten(0, 1).index_select(0, rows)
    if forward_size == features:
        return end
    return torch.cat([end[:, :forward_size], outputs[0, :, forward_size:]], dim=-1)


def mean(
    outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch features"]:
    """Average over each row's valid steps."""
    total = outputs.sum(0)
    if lengths is None:
        return total / max(1, len(outputs))
    return total / lengths.clamp(min=1).unsqueeze(1).to(total.dtype)


def maximum(
    outputs: Float[Tensor, "time batch features"], lengths: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch features"]:
    """Take each feature's largest value over the row's valid steps."""
    time, batch, features = outputs.shape
    if time == 0:
        return outputs.new_zeros(batch, features)
    if lengths is None:
        return outputs.amax(0)
    dead = torch.arange(time, device=outputs.device).unsqueeze(1) >= lengths
    largest = outputs.masked_fill(dead.unsqueeze(2), -torch.inf).amax(0)
    return largest.masked_fill((lengths == 0).unsqueeze(1), 0)
