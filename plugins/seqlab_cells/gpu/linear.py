"""Triton kernels of the scan ``h' = a * h + b``, and the functions that launch them.

A program has some columns and a chunk of the steps. All steps of a tile are in flight at once, and combined within it;
tiles follow one another. Where a step has too few columns to fill the device, time is cut into chunks: the effect of
each chunk on a state is computed for all of them at once, the states between chunks follow from that, and then all
chunks are scanned at once. That reads a and b twice.
"""

# The arguments of a kernel have types of Triton's own.
# mypy: disable-error-code="no-untyped-def"

from typing import Any, no_type_check

import torch
import triton  # type: ignore[import-untyped]  # it has no types
import triton.language as tl  # type: ignore[import-untyped]  # it has no types
from torch import Tensor

COLUMNS, STEPS = 32, 32
"""A program's tile: one warp, a column to each thread, so that steps are combined within a thread."""
ENOUGH = 1024
"""Programs that keep a GPU's memory busy; with fewer, time is cut into chunks."""
SHORTEST = 4 * STEPS
"""Steps of a chunk, at least."""


@no_type_check
@triton.jit
def then(a_1, b_1, a_2, b_2):
    """Combine two steps into one: ``a_2 (a_1 h + b_1) + b_2``."""
    return a_1 * a_2, a_2 * b_1 + b_2


@no_type_check
@triton.jit
def last_row(x, BT: tl.constexpr):
    """Return the last row of a tile."""
    return tl.sum(tl.where(tl.arange(0, BT)[:, None] == BT - 1, x, 0.0), axis=0)


@no_type_check
@triton.jit
def offsets(s, time, columns, REVERSED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr):
    """Return the offsets of the tile that starts at step ``s``, which of them exist, and its steps."""
    step = s + tl.arange(0, BT)[:, None]
    column = (tl.program_id(0) * BN + tl.arange(0, BN))[None, :]
    t = time - 1 - step if REVERSED else step
    return t.to(tl.int64) * columns + column, (step < time) & (column < columns), step


@no_type_check
@triton.jit(do_not_specialize=["time", "span"])
def effects(a, b, product, added, time, columns, span, REVERSED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr):
    """Compute the effect of each chunk on a state: a factor and a summand, ``[chunks, columns]``, float32."""
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    begin = tl.program_id(1) * span
    p, q = tl.full((BN,), 1.0, tl.float32), tl.zeros((BN,), tl.float32)
    for s in range(begin, tl.minimum(begin + span, time), BT):
        at, inside, _ = offsets(s, time, columns, REVERSED, BT, BN)
        a_t = tl.load(a + at, mask=inside, other=1.0).to(tl.float32)
        b_t = tl.load(b + at, mask=inside, other=0.0).to(tl.float32)
        a_t, b_t = tl.associative_scan((a_t, b_t), 0, then)
        a_end, b_end = last_row(a_t, BT), last_row(b_t, BT)
        p, q = p * a_end, a_end * q + b_end
    to = tl.program_id(1).to(tl.int64) * columns + column
    tl.store(product + to, p, mask=column < columns)
    tl.store(added + to, q, mask=column < columns)


@no_type_check
@triton.jit(do_not_specialize=["time", "span"])
def scan(a, b, start, h, time, columns, span, REVERSED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr):
    """Compute all states of a chunk, from the state before it: ``start [chunks, columns]``, float32."""
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    begin = tl.program_id(1) * span
    state = tl.load(start + tl.program_id(1).to(tl.int64) * columns + column, mask=column < columns, other=0.0)
    for s in range(begin, tl.minimum(begin + span, time), BT):
        at, inside, _ = offsets(s, time, columns, REVERSED, BT, BN)
        a_t = tl.load(a + at, mask=inside, other=1.0).to(tl.float32)
        b_t = tl.load(b + at, mask=inside, other=0.0).to(tl.float32)
        a_t, b_t = tl.associative_scan((a_t, b_t), 0, then)
        h_t = a_t * state[None, :] + b_t
        tl.store(h + at, h_t.to(h.dtype.element_ty), mask=inside)
        state = last_row(h_t, BT)


@no_type_check
@triton.jit(do_not_specialize=["time", "span"])
def scan_back(
    a, dh, h, h0, start, da, db, time, columns, span, REVERSED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr
):  # fmt: skip
    """Compute the gradients of a chunk: ``g_t = dh_t + a_{t+1} g_{t+1}``, ``db_t = g_t`` and ``da_t = g_t h_{t-1}``.

    ``REVERSED`` is the gradient's direction, against the scan's own; ``a_{t+1}`` is 0 behind the last step.
    """
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    begin = tl.program_id(1) * span
    after = columns if REVERSED else -columns
    state = tl.load(start + tl.program_id(1).to(tl.int64) * columns + column, mask=column < columns, other=0.0)
    for s in range(begin, tl.minimum(begin + span, time), BT):
        at, inside, step = offsets(s, time, columns, REVERSED, BT, BN)
        a_t = tl.load(a + at + after, mask=inside & (step > 0), other=1.0).to(tl.float32)
        g_t = tl.load(dh + at, mask=inside, other=0.0).to(tl.float32)
        before = tl.load(h + at - after, mask=inside & (step < time - 1), other=0.0).to(tl.float32)
        first = tl.load(h0 + column, mask=column < columns, other=0.0).to(tl.float32)
        before = tl.where(step == time - 1, first[None, :], before)
        a_t, g_t = tl.associative_scan((a_t, g_t), 0, then)
        g_t = a_t * state[None, :] + g_t
        tl.store(db + at, g_t.to(db.dtype.element_ty), mask=inside)
        tl.store(da + at, (g_t * before).to(da.dtype.element_ty), mask=inside)
        state = last_row(g_t, BT)


def _grid(time: int, columns: int) -> tuple[int, int, int]:
    """Return the number of programs for the columns, the number of chunks of time, and the steps of each."""
    beside = -(-columns // COLUMNS)
    chunks = max(1, min(ENOUGH // beside, time // SHORTEST))
    span = -(-time // chunks)
    span = -(-span // STEPS) * STEPS
    return beside, -(-time // span), span


def _starts(a: Tensor, b: Tensor, start: Tensor, grid: tuple[int, int, int], reversed_: bool) -> Tensor:
    """Compute the state before each chunk, ``[chunks, columns]`` in float32."""
    beside, chunks, span = grid
    start = start.float().flatten().unsqueeze(0)
    if chunks == 1:
        return start
    product, added = (start.new_empty(chunks, start.shape[1]) for _ in range(2))
    launch: Any = effects[(beside, chunks)]
    launch(a, b, product, added, len(a), start.shape[1], span, REVERSED=reversed_, BT=STEPS, BN=COLUMNS, num_warps=1)
    # A chunk's effect is a step like any other.
    after = forward(product[:-1], added[:-1], start[0], False)
    return torch.cat([start, after])


def forward(a: Tensor, b: Tensor, start: Tensor, backward_in_time: bool) -> Tensor:
    """Compute all states ``[time, ...]``, in float32 internally."""
    a, b = a.contiguous(), b.contiguous()
    h, columns = torch.empty_like(b), start.numel()
    if not h.numel():
        return h
    grid = _grid(len(a), columns)
    before = _starts(a, b, start, grid, backward_in_time)
    launch: Any = scan[grid[:2]]
    launch(a, b, before, h, len(a), columns, grid[2], REVERSED=backward_in_time, BT=STEPS, BN=COLUMNS, num_warps=1)
    return h


def backward(
    a: Tensor, start: Tensor, h: Tensor, gradient: Tensor, backward_in_time: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of ``a``, of ``b`` and of the initial state."""
    a, h, gradient, start = a.contiguous(), h.contiguous(), gradient.contiguous(), start.contiguous()
    da, db, columns = torch.empty_like(a), torch.empty_like(a), start.numel()
    if not h.numel():
        return da, db, torch.zeros_like(start)
    grid = _grid(len(a), columns)
    reversed_ = not backward_in_time
    none = start.new_zeros(start.shape, dtype=torch.float32)
    before = none.flatten().unsqueeze(0)
    if grid[1] > 1:  # the scan of the gradient reads the share of the step after, of which the last has none
        share = torch.ones_like(a)
        if reversed_:
            share[:-1] = a[1:]
        else:
            share[1:] = a[:-1]
        before = _starts(share, gradient, none, grid, reversed_)
    launch: Any = scan_back[grid[:2]]
    launch(
        a, gradient, h, start, before, da, db, len(a), columns, grid[2],
        REVERSED=reversed_, BT=STEPS, BN=COLUMNS, num_warps=1,
    )  # fmt: skip
    first = -1 if backward_in_time else 0
    return da, db, a[first] * db[first]
