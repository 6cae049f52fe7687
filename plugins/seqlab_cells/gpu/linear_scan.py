"""The scan ``h' = a * h + b`` and its derivative: a program has some columns and a chunk of the steps.

All steps of a tile are in flight at once, and folded within it; tiles follow one another. Where a step has too few
columns to fill the device, time is cut into chunks: what each chunk does to a state is found for all of them at the
same time, the states between chunks follow from that, and then all chunks are walked at once. That reads a and b twice.
"""

# The arguments of a kernel have types of Triton's own.
# mypy: disable-error-code="no-untyped-def"

from typing import no_type_check

import triton  # type: ignore[import-untyped]  # it has no types
import triton.language as tl  # type: ignore[import-untyped]  # it has no types


@no_type_check
@triton.jit
def then(a_1, b_1, a_2, b_2):
    """Make one step of two: ``a_2 (a_1 h + b_1) + b_2``."""
    return a_1 * a_2, a_2 * b_1 + b_2


@no_type_check
@triton.jit
def last_row(x, BT: tl.constexpr):
    """Take the last row of a tile."""
    return tl.sum(tl.where(tl.arange(0, BT)[:, None] == BT - 1, x, 0.0), axis=0)


@no_type_check
@triton.jit
def places(s, time, columns, TURNED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr):
    """Say where the tile that starts at step ``s`` lies; a step past the end is no place."""
    step = s + tl.arange(0, BT)[:, None]
    column = (tl.program_id(0) * BN + tl.arange(0, BN))[None, :]
    t = time - 1 - step if TURNED else step
    return t.to(tl.int64) * columns + column, (step < time) & (column < columns), step


@no_type_check
@triton.jit(do_not_specialize=["time", "span"])
def effects(a, b, product, added, time, columns, span, TURNED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr):
    """Find what each chunk does to a state: ``[chunks, columns]`` of a product and of what is added, float32."""
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    begin = tl.program_id(1) * span
    p, q = tl.full((BN,), 1.0, tl.float32), tl.zeros((BN,), tl.float32)
    for s in range(begin, tl.minimum(begin + span, time), BT):
        at, inside, _ = places(s, time, columns, TURNED, BT, BN)
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
def walk(a, b, start, h, time, columns, span, TURNED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr):
    """Make all states of a chunk, from the state before it: ``start [chunks, columns]``, float32."""
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    begin = tl.program_id(1) * span
    state = tl.load(start + tl.program_id(1).to(tl.int64) * columns + column, mask=column < columns, other=0.0)
    for s in range(begin, tl.minimum(begin + span, time), BT):
        at, inside, _ = places(s, time, columns, TURNED, BT, BN)
        a_t = tl.load(a + at, mask=inside, other=1.0).to(tl.float32)
        b_t = tl.load(b + at, mask=inside, other=0.0).to(tl.float32)
        a_t, b_t = tl.associative_scan((a_t, b_t), 0, then)
        h_t = a_t * state[None, :] + b_t
        tl.store(h + at, h_t.to(h.dtype.element_ty), mask=inside)
        state = last_row(h_t, BT)


@no_type_check
@triton.jit(do_not_specialize=["time", "span"])
def walk_back(
    a, dh, h, h0, start, da, db, time, columns, span, TURNED: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr
):  # fmt: skip
    """Make the gradients of a chunk: ``g_t = dh_t + a_{t+1} g_{t+1}``, ``db_t = g_t`` and ``da_t = g_t h_{t-1}``.

    ``TURNED`` is the gradient's way, against the scan's own; ``a_{t+1}`` is 0 behind the last step.
    """
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    begin = tl.program_id(1) * span
    after = columns if TURNED else -columns
    state = tl.load(start + tl.program_id(1).to(tl.int64) * columns + column, mask=column < columns, other=0.0)
    for s in range(begin, tl.minimum(begin + span, time), BT):
        at, inside, step = places(s, time, columns, TURNED, BT, BN)
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
