"""What the kernels' steps are made of."""

# The arguments of a kernel have types of Triton's own.
# mypy: disable-error-code="no-untyped-def"

from typing import no_type_check

import triton  # type: ignore[import-untyped]  # it has no types
import triton.language as tl  # type: ignore[import-untyped]  # it has no types


@no_type_check
@triton.jit
def sigmoid(x):
    """Squash to (0, 1); in float32, like all below."""
    return 1.0 / (1.0 + tl.exp(-x))


@no_type_check
@triton.jit
def tanh(x):
    """Near zero an odd polynomial (Cephes' tanhf), for the other form loses its digits there."""
    size = tl.abs(x)
    far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    z = x * x
    near = -5.70498872745e-3 * z + 2.06390887954e-2
    near = near * z - 5.37397155531e-2
    near = near * z + 1.33314422036e-1
    near = near * z - 3.33332819422e-1
    return tl.where(z < 0.390625, x * z * near + x, tl.where(x < 0, -far, far))


@no_type_check
@triton.jit
def matrix(w, direction, gate, TURNED: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr, BH: tl.constexpr):
    """Load one gate's square of ``W_hh``, ``[to, from]``, or turned ``[from, to]``; zeros round it up to ``BH``."""
    row, column = tl.arange(0, BH)[:, None], tl.arange(0, BH)[None, :]
    square = tl.load(w + ((direction * GATES + gate) * H + row) * H + column, mask=(row < H) & (column < H), other=0.0)
    if TURNED:
        square = tl.trans(square)
    return square


@no_type_check
@triton.jit
def matrices(w, direction, TURNED: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr, BH: tl.constexpr):
    """Load ``W_hh`` gate by gate; a cell of fewer gates gets the last one again."""
    w0 = matrix(w, direction, 0, TURNED, GATES, H, BH)
    w1, w2, w3 = w0, w0, w0
    if GATES >= 3:
        w1 = matrix(w, direction, 1, TURNED, GATES, H, BH)
        w2 = matrix(w, direction, 2, TURNED, GATES, H, BH)
        w3 = w2
    if GATES == 4:
        w3 = matrix(w, direction, 3, TURNED, GATES, H, BH)
    return w0, w1, w2, w3


@no_type_check
@triton.jit
def rows_of(lengths, order, base, batch, time, RAGGED: tl.constexpr, BM: tl.constexpr):
    """Say which rows a program has: whether each exists, its number, its length, and where its first step is kept."""
    place = tl.program_id(0) * BM + tl.arange(0, BM)
    there = place < batch
    if RAGGED:
        row = tl.load(order + place, mask=there, other=0)
        length = tl.load(lengths + row, mask=there, other=0).to(tl.int32)
        first = tl.load(base + row, mask=there, other=0)
    else:
        row = place.to(tl.int64)
        length = tl.where(there, time, 0).to(tl.int32)
        first = row
    return there, row, length, first


@no_type_check
@triton.jit
def places(row, length, first, direction, batch, stride, directions):
    """Say where each row's first step in a direction is kept and put out, and how far the next one is from it.

    In steps' worth of one direction. The two of rows stay as they are over all steps, so that threads never have to
    pass them one another; what changes from step to step is the same for all rows.
    """
    turned = direction == 1
    begin = tl.where(turned, tl.maximum(length - 1, 0), 0).to(tl.int64)
    way = tl.where(turned, -directions, directions).to(tl.int64)
    kept = ((first + begin * stride) * directions + direction)[:, None]
    out = ((begin * batch + row) * directions + direction)[:, None]
    return kept, out, way * stride, way * batch


@no_type_check
@triton.jit
def load_gates(x, at, alive, GATES: tl.constexpr, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr):
    """Read a step's gates, which lie side by side, in one go: threads then wait for one another once, not four times.

    ``at`` and ``alive`` are columns, one number a row. A cell of one gate gets it four times.
    """
    if GATES == 1:
        one = tl.arange(0, BH)[None, :]
        a0 = tl.load(x + (at + one), mask=alive & (one < H), other=0.0)
        a1, a2, a3 = a0, a0, a0
    else:
        column = tl.arange(0, 4 * BH)[None, :]
        gate, unit = column // BH, column % BH
        mine = tl.load(x + (at + (gate * H + unit)), mask=alive & (unit < H) & (gate < GATES), other=0.0)
        pairs = tl.reshape(tl.permute(tl.reshape(mine, (BM, 4, BH)), (0, 2, 1)), (BM, BH, 2, 2))
        even, odd = tl.split(pairs)
        a0, a2 = tl.split(even)
        a1, a3 = tl.split(odd)
    return a0, a1, a2, a3


@no_type_check
@triton.jit
def store_gates(to, at, alive, g0, g1, g2, g3, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr):
    """Write four gates of a step side by side, in one go as well."""
    kind = to.dtype.element_ty
    column = tl.arange(0, 4 * BH)[None, :]
    gate, unit = column // BH, column % BH
    pairs = tl.join(tl.join(g0.to(kind), g2.to(kind)), tl.join(g1.to(kind), g3.to(kind)))
    mine = tl.reshape(tl.permute(tl.reshape(pairs, (BM, BH, 4)), (0, 2, 1)), (BM, 4 * BH))
    tl.store(to + (at + (gate * H + unit)), mine, mask=alive & (unit < H))
