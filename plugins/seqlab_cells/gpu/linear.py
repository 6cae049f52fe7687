"""The scan ``h' = a * h + b`` on a GPU as two functions of tensors."""

from typing import Any

import torch
from torch import Tensor

from seqlab_cells.gpu.limits import INTERPRETED

COLUMNS, STEPS = 32, 32
"""A program's tile: one warp, a column to each of its threads, so that steps are folded without leaving a thread."""
ENOUGH = 1024
"""Programs that keep a GPU's memory busy; with fewer, time is cut into chunks."""
SHORTEST = 4 * STEPS
"""Steps of a chunk, at least."""


def _grid(time: int, columns: int) -> tuple[int, int, int]:
    """Say how many programs lie beside one another, how many chunks of time there are, and how long each is."""
    beside = -(-columns // COLUMNS)
    chunks = max(1, min(ENOUGH // beside, time // SHORTEST))
    span = -(-time // chunks)
    span = -(-span // STEPS) * STEPS
    return beside, -(-time // span), span


def _starts(a: Tensor, b: Tensor, start: Tensor, grid: tuple[int, int, int], turned: bool) -> Tensor:
    """Make the state before each chunk, ``[chunks, columns]`` in float32."""
    from seqlab_cells.gpu.linear_scan import effects

    beside, chunks, span = grid
    start = start.float().flatten().unsqueeze(0)
    if chunks == 1:
        return start
    product, added = (start.new_empty(chunks, start.shape[1]) for _ in range(2))
    launch: Any = effects[(beside, chunks)]
    launch(a, b, product, added, len(a), start.shape[1], span, TURNED=turned, BT=STEPS, BN=COLUMNS, num_warps=1)
    # A chunk's effect is a step as any other.
    after = forward(product[:-1], added[:-1], start[0], False)
    return torch.cat([start, after])


def forward(a: Tensor, b: Tensor, start: Tensor, backward_in_time: bool) -> Tensor:
    """Make all states ``[time, ...]``; float32 within, whatever the type of number."""
    from seqlab_cells.gpu.linear_scan import walk

    a, b = a.contiguous(), b.contiguous()
    h, columns = torch.empty_like(b), start.numel()
    if not h.numel():
        return h
    grid = _grid(len(a), columns)
    before = _starts(a, b, start, grid, backward_in_time)
    launch: Any = walk[grid[:2]]
    launch(a, b, before, h, len(a), columns, grid[2], TURNED=backward_in_time, BT=STEPS, BN=COLUMNS, num_warps=1)
    return h


def backward(
    a: Tensor, start: Tensor, h: Tensor, gradient: Tensor, backward_in_time: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of ``a``, of ``b`` and of the initial state."""
    from seqlab_cells.gpu.linear_scan import walk_back

    a, h, gradient, start = a.contiguous(), h.contiguous(), gradient.contiguous(), start.contiguous()
    da, db, columns = torch.empty_like(a), torch.empty_like(a), start.numel()
    if not h.numel():
        return da, db, torch.zeros_like(start)
    grid = _grid(len(a), columns)
    turned = not backward_in_time
    none = start.new_zeros(start.shape, dtype=torch.float32)
    before = none.flatten().unsqueeze(0)
    if grid[1] > 1:  # the scan of the gradient reads the share of the step after, of which the last has none
        share = torch.ones_like(a)
        if turned:
            share[:-1] = a[1:]
        else:
            share[1:] = a[:-1]
        before = _starts(share, gradient, none, grid, turned)
    launch: Any = walk_back[grid[:2]]
    launch(
        a, gradient, h, start, before, da, db, len(a), columns, grid[2],
        TURNED=turned, BT=STEPS, BN=COLUMNS, num_warps=1,
    )  # fmt: skip
    first = -1 if backward_in_time else 0
    return da, db, a[first] * db[first]


def able(x: Tensor) -> bool:
    """Whether these functions can be called on such tensors."""
    return (x.is_cuda or INTERPRETED) and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
