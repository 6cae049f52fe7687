"""The walk forward: a program has some rows and a direction, and holds W over all steps.

Programs know nothing of one another. A program's rows are of similar length (they are sorted), and it ends with the
longest of them. The state is float32 and never leaves the program; what meets W is rounded to W's type, and summed in
float32. The inputs' product with W_ih is made before, and read a step ahead of its use.
"""

# The arguments of a kernel have types of Triton's own.
# mypy: disable-error-code="no-untyped-def"

from typing import no_type_check

import triton  # type: ignore[import-untyped]  # it has no types
import triton.language as tl  # type: ignore[import-untyped]  # it has no types

from seqlab_cells.gpu.arithmetic import matrix, rows_of, sigmoid, tanh


@no_type_check
@triton.jit
def load_gates(x, at, inside, GATES: tl.constexpr, H: tl.constexpr):
    """Read what the input adds to each gate of a step; a cell of fewer gates gets the last one again."""
    a0 = tl.load(x + at, mask=inside, other=0.0)
    a1, a2, a3 = a0, a0, a0
    if GATES >= 3:
        a1 = tl.load(x + at + H, mask=inside, other=0.0)
        a2 = tl.load(x + at + 2 * H, mask=inside, other=0.0)
        a3 = a2
    if GATES == 4:
        a3 = tl.load(x + at + 3 * H, mask=inside, other=0.0)
    return a0, a1, a2, a3


@no_type_check
@triton.jit
def store_gates(to, at, inside, g0, g1, g2, g3, H: tl.constexpr):
    """Write four gates of a step side by side."""
    tl.store(to + at, g0.to(to.dtype.element_ty), mask=inside)
    tl.store(to + at + H, g1.to(to.dtype.element_ty), mask=inside)
    tl.store(to + at + 2 * H, g2.to(to.dtype.element_ty), mask=inside)
    tl.store(to + at + 3 * H, g3.to(to.dtype.element_ty), mask=inside)


@no_type_check
@triton.jit(do_not_specialize=["batch", "time", "stride"])
def forward(
    x,  # [kept steps, directions, gates, H]: the inputs' product, biases added
    w,  # [directions, gates * H, H]
    b_n,  # [directions, H], float32: of a GRU's candidate, the bias of the state's product
    h0,  # [directions, batch, H], float32, as are the other states
    c0,
    y,  # [time, batch, directions * H]
    h_end,
    c_end,
    kept_c,  # [kept steps, directions, H], float32
    kept_gates,  # [kept steps, directions, 4, H]
    lengths,  # [batch], int64, as are the two that follow
    order,
    base,
    batch,
    time,
    stride,  # kept steps from one step of a row to its next
    directions: tl.constexpr,
    TAIL: tl.constexpr,
    GATES: tl.constexpr,
    H: tl.constexpr,
    BH: tl.constexpr,
    BM: tl.constexpr,
    RAGGED: tl.constexpr,
    KEEP_C: tl.constexpr,
    KEEP_GATES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Scan one tile of rows in one direction."""
    direction = tl.program_id(1)
    there, row, length, first = rows_of(lengths, order, base, batch, time, RAGGED, BM)
    steps = tl.max(length, axis=0)
    unit = tl.arange(0, BH)[None, :]
    real = there[:, None] & (unit < H)
    state_at = ((direction * batch).to(tl.int64) + row)[:, None] * H + unit
    h = tl.load(h0 + state_at, mask=real, other=0.0)
    c = h
    if TAIL == "Lstm":
        c = tl.load(c0 + state_at, mask=real, other=0.0)
    w0 = matrix(w, direction, 0, True, GATES, H, BH)
    if GATES >= 3:
        w1 = matrix(w, direction, 1, True, GATES, H, BH)
        w2 = matrix(w, direction, 2, True, GATES, H, BH)
    if GATES == 4:
        w3 = matrix(w, direction, 3, True, GATES, H, BH)
    if TAIL == "Gru":
        bias = tl.load(b_n + direction * H + unit, mask=unit < H, other=0.0)
    turned = direction == 1
    t = tl.where(turned, length - 1, 0)
    at = ((first + t * stride) * directions + direction)[:, None]
    x0, x1, x2, x3 = load_gates(x, at * (GATES * H) + unit, real & (length > 0)[:, None], GATES, H)
    for s in range(steps):
        alive = real & (s < length)[:, None]
        a0, a1, a2, a3 = x0.to(tl.float32), x1.to(tl.float32), x2.to(tl.float32), x3.to(tl.float32)
        now, t_now = at, t
        t = tl.where(turned, length - 2 - s, s + 1)
        at = ((first + t * stride) * directions + direction)[:, None]
        x0, x1, x2, x3 = load_gates(x, at * (GATES * H) + unit, real & (s + 1 < length)[:, None], GATES, H)
        meets = h.to(w.dtype.element_ty)
        p0 = tl.dot(meets, w0, input_precision=PRECISION)
        if GATES >= 3:
            p1 = tl.dot(meets, w1, input_precision=PRECISION)
            p2 = tl.dot(meets, w2, input_precision=PRECISION)
        if TAIL == "Lstm":
            p3 = tl.dot(meets, w3, input_precision=PRECISION)
            g0, g1, g2, g3 = sigmoid(p0 + a0), sigmoid(p1 + a1), tanh(p2 + a2), sigmoid(p3 + a3)
            c = tl.where(alive, g1 * c + g0 * g2, c)
            new = g3 * tanh(c)
            if KEEP_C:
                tl.store(kept_c + now * H + unit, c, mask=alive)
        elif TAIL == "Gru":
            g0, g1, g3 = sigmoid(p0 + a0), sigmoid(p1 + a1), p2 + bias
            g2 = tanh(a2 + g0 * g3)
            new = g2 + g1 * (h - g2)
        elif TAIL == "RnnRelu":
            z = p0 + a0
            new = tl.where(z < 0, 0.0, z)  # in this order a NaN passes
        else:
            new = tanh(p0 + a0)
        if KEEP_GATES:
            store_gates(kept_gates, now * (4 * H) + unit, alive, g0, g1, g2, g3, H)
        h = tl.where(alive, new, h)
        out = ((t_now * batch + row) * directions + direction)[:, None] * H + unit
        tl.store(y + out, h.to(y.dtype.element_ty), mask=alive)
    tl.store(h_end + state_at, h, mask=real)
    if TAIL == "Lstm":
        tl.store(c_end + state_at, c, mask=real)
