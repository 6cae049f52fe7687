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
def rows_of(lengths, order, base, batch, time, RAGGED: tl.constexpr, BM: tl.constexpr):
    """Say which rows a program has: whether each exists, its number, its length, and where its first step is kept."""
    place = tl.program_id(0) * BM + tl.arange(0, BM)
    there = place < batch
    if RAGGED:
        row = tl.load(order + place, mask=there, other=0)
        length = tl.load(lengths + row, mask=there, other=0)
        first = tl.load(base + row, mask=there, other=0)
    else:
        row = place.to(tl.int64)
        length = tl.where(there, time, 0).to(tl.int64)
        first = row
    return there, row, length, first
