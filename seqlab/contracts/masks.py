"""Masks and reversal of padded batches, time first."""

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from seqlab.contracts.batch import Lengths, as_lengths, check_lengths


def checked(lengths: Lengths, x: Shaped[Tensor, "time batch *rest"]) -> Tensor:
    """Convert lengths to an int64 tensor on the input's device.

    The range of lengths that are on a GPU is not checked: reading them would wait for it.

    Raises:
        ValueError: they are no integers from 0 to ``time``, one for each row.
    """
    found = as_lengths(lengths)
    if found.device.type == "cpu" or found.shape[0] != x.shape[1]:
        check_lengths(found, x.shape[1], x.shape[0])
    return found.to(x.device)


def all_full(lengths: Tensor, time: int) -> bool:
    """Return whether every row has ``time`` valid steps; False where the values cannot be read."""
    return _readable(lengths) and bool((lengths == time).all())


def _readable(lengths: Tensor) -> bool:
    """Return whether a tensor holds values: not while it is traced, under vmap, or on the meta device."""
    return not (torch.compiler.is_compiling() or lengths.is_meta or torch._C._functorch.is_batchedtensor(lengths))


def valid_mask(lengths: Lengths, time: int) -> Bool[Tensor, "{time} batch"]:
    """Return the mask of valid steps: ``mask[t, b] = t < lengths[b]``."""
    lengths = as_lengths(lengths)
    return torch.arange(time, device=lengths.device).unsqueeze(1) < lengths


def zero_padding(x: Shaped[Tensor, "time batch *rest"], lengths: Lengths) -> Shaped[Tensor, "time batch *rest"]:
    """Set the padding to zero; nothing in it, NaN included, reaches a value or a gradient."""
    lengths = checked(lengths, x)
    padding = ~valid_mask(lengths, x.shape[0])
    if x.device.type == "cpu" and _readable(lengths):  # row by row, which takes half the time
        rows = padding.flatten().nonzero().squeeze(1)
        return x.flatten(0, 1).index_fill(0, rows, 0).view_as(x)
    return x.masked_fill(padding.view(*padding.shape, *(1,) * (x.dim() - 2)), 0)


def reverse_within(
    x: Shaped[Tensor, "time batch *rest"], lengths: Lengths | None
) -> Shaped[Tensor, "time batch *rest"]:
    """Reverse each row within its own length and leave its padding where it is; its own inverse."""
    if lengths is None:
        return x.flip(0)
    lengths = checked(lengths, x)
    time, batch = x.shape[:2]
    steps = torch.arange(time, device=x.device).unsqueeze(1)
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    rows = source * batch + torch.arange(batch, device=x.device)
    return x.flatten(0, 1).index_select(0, rows.flatten()).view_as(x)


def last_valid(
    x: Shaped[Tensor, "time batch *rest"],
    lengths: Lengths | None,
    default: Shaped[Tensor, "batch *rest"] | None = None,
) -> Shaped[Tensor, "batch *rest"]:
    """Return each row's last valid step; a row of length 0 gives its row of ``default`` (zeros if there is none)."""
    if not x.shape[0]:  # len would fix a size that is traced
        return x.new_zeros(x.shape[1:]) if default is None else default
    if lengths is None:
        return x[-1]
    lengths, batch = checked(lengths, x), x.shape[1]
    rows = (lengths - 1).clamp(min=0) * batch + torch.arange(batch, device=x.device)
    last = x.flatten(0, 1).index_select(0, rows)
    empty = (lengths == 0).view(-1, *(1,) * (last.dim() - 1))
    return torch.where(empty, torch.zeros_like(last) if default is None else default, last)


def last_of_each(
    y: Shaped[Tensor, "time batch output"], lengths: Lengths | None, forward_size: int
) -> Shaped[Tensor, "batch output"]:
    """Return the output of each direction's last step.

    Args:
        y: the forward features of each step, then the backward ones, if there are any; zero on padding.
        lengths: valid steps of each row; a row of length 0 gives zeros.
        forward_size: number of forward features, taken from the row's last valid step; the backward features are taken
            from the first step.
    """
    end = last_valid(y[..., :forward_size], lengths)
    if forward_size == y.shape[2]:
        return end
    if not y.shape[0]:
        return y.new_zeros(y.shape[1:])
    return torch.cat([end, y[0, :, forward_size:]], dim=-1)
