"""How a ragged batch lies in memory: its valid steps alone, row after row."""

from typing import NamedTuple

import torch
from torch import Tensor


class Plan(NamedTuple):
    """Where the steps of a batch are kept.

    Attributes:
        total: how many steps are kept.
        stride: from a step of a row to its next.
        places: of each kept step, its place in ``[time * batch]``; ``None`` where all are kept, as they lie.
        row: of each kept step, its row; ``None`` the same.
        step: of each kept step, its time in its row; ``None`` the same.
        lengths: valid steps of each row, or ``None``.
        order: the rows, the longest first.
        base: where each row's first step is kept.
    """

    total: int
    stride: int
    places: Tensor | None = None
    row: Tensor | None = None
    step: Tensor | None = None
    lengths: Tensor | None = None
    order: Tensor | None = None
    base: Tensor | None = None

    def kept(self, x: Tensor) -> Tensor:
        """``[time, batch, ...]`` as ``[kept steps, ...]``; padding, NaN or not, stays behind."""
        flat = x.flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)

    def spread(self, x: Tensor, time: int, batch: int) -> Tensor:
        """Undo :meth:`kept`, with zeros on the padding."""
        if self.places is None:
            return x.view(time, batch, *x.shape[1:])
        return x.new_zeros(time * batch, *x.shape[1:]).index_copy_(0, self.places, x).view(time, batch, *x.shape[1:])

    def before(self, y: Tensor, start: Tensor, backward: bool) -> Tensor:
        """Give the state before each kept step of ``y [time, batch, hidden]``, in the direction that made it."""
        if self.places is None:
            start = start.to(y.dtype).unsqueeze(0)[: len(y)]
            return torch.cat([y[1:], start] if backward else [start, y[:-1]]).flatten(0, 1)
        assert self.row is not None
        assert self.step is not None
        assert self.lengths is not None
        batch = y.shape[1]
        first = self.step == (self.lengths[self.row] - 1 if backward else 0)
        at = torch.where(first, self.places, self.places + (batch if backward else -batch))
        earlier = y.flatten(0, 1).index_select(0, at)
        return torch.where(first.unsqueeze(1), start.to(y.dtype).index_select(0, self.row), earlier)


def plan(time: int, batch: int, lengths: Tensor | None, device: torch.device) -> Plan:
    """Lay a batch out. With lengths their sum is waited for, to know how large the products are."""
    if lengths is None:
        return Plan(time * batch, batch)
    lengths = lengths.to(device, torch.int64)
    total = int(lengths.sum())
    base = lengths.cumsum(0) - lengths
    row = torch.arange(batch, device=device).repeat_interleave(lengths, output_size=total)
    step = torch.arange(total, device=device) - base[row]
    order = lengths.argsort(descending=True, stable=True)
    return Plan(total, 1, step * batch + row, row, step, lengths, order, base)
