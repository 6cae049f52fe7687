"""Rows of unequal length in one padded tensor, time first."""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


def alive(lengths: Int[Tensor, " batch"], time: int) -> Bool[Tensor, "{time} batch"]:
    """Mark the valid steps: ``alive[t, b] = t < lengths[b]``."""
    return torch.arange(time, device=lengths.device).unsqueeze(1) < lengths


def blank(x: Shaped[Tensor, "time batch *rest"], lengths: Int[Tensor, " batch"]) -> Shaped[Tensor, "time batch *rest"]:
    """Set the padding to zero; nothing in it, NaN included, reaches a value or a gradient."""
    dead = ~alive(lengths, x.shape[0])
    return x.masked_fill(dead.view(*dead.shape, *(1,) * (x.dim() - 2)), 0)


def reverse_within(
    x: Shaped[Tensor, "time batch *rest"], lengths: Int[Tensor, " batch"] | None
) -> Shaped[Tensor, "time batch *rest"]:
    """Reverse each row within its own length and leave its padding where it is; its own inverse."""
    if lengths is None:
        return x.flip(0)
    time, batch = x.shape[:2]
    steps = torch.arange(time, device=x.device).unsqueeze(1)
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    rows = source * batch + torch.arange(batch, device=x.device)
    return x.flatten(0, 1).index_select(0, rows.flatten()).view_as(x)


def last_valid(
    x: Shaped[Tensor, "time batch *rest"],
    lengths: Int[Tensor, " batch"] | None,
    default: Shaped[Tensor, "batch *rest"] | None = None,
) -> Shaped[Tensor, "batch *rest"]:
    """Take each row's last valid step; a row of length 0 gives its row of ``default`` (zeros if there is none)."""
    if not len(x):
        return x.new_zeros(x.shape[1:]) if default is None else default
    if lengths is None:
        return x[-1]
    batch = x.shape[1]
    rows = (lengths - 1).clamp(min=0) * batch + torch.arange(batch, device=x.device)
    last = x.flatten(0, 1).index_select(0, rows)
    empty = (lengths == 0).view(-1, *(1,) * (last.dim() - 1))
    return torch.where(empty, torch.zeros_like(last) if default is None else default, last)
