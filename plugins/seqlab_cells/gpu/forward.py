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

from seqlab_cells.gpu.arithmetic import load_gates, matrices, places, rows_of, sigmoid, store_gates, tanh


@no_type_check
@triton.jit
def product(h, w0, w1, w2, w3, a0, a1, a2, a3, TAIL: tl.constexpr, PRECISION: tl.constexpr):
    """Multiply the state with each gate's W, and add what the input says; of a GRU's candidate that stays apart."""
    meets = h.to(w0.dtype)
    p0 = tl.dot(meets, w0, a0.to(tl.float32), input_precision=PRECISION)
    p1, p2, p3 = p0, p0, p0
    if TAIL == "Gru":
        p1 = tl.dot(meets, w1, a1.to(tl.float32), input_precision=PRECISION)
        p2 = tl.dot(meets, w2, input_precision=PRECISION)
        p3 = a2.to(tl.float32)
    if TAIL == "Lstm":
        p1 = tl.dot(meets, w1, a1.to(tl.float32), input_precision=PRECISION)
        p2 = tl.dot(meets, w2, a2.to(tl.float32), input_precision=PRECISION)
        p3 = tl.dot(meets, w3, a3.to(tl.float32), input_precision=PRECISION)
    return p0, p1, p2, p3


@no_type_check
@triton.jit(do_not_specialize=["batch", "time", "stride", "directions"])
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
    directions,
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
    w0, w1, w2, w3 = matrices(w, direction, True, GATES, H, BH)
    if TAIL == "Gru":
        bias = tl.load(b_n + direction * H + unit, mask=unit < H, other=0.0)
    at, out, to_next, out_to_next = places(row, length, first, direction, batch, stride, directions)
    x0, x1, x2, x3 = load_gates(x, at * (GATES * H), (length > 0)[:, None], GATES, H, BM, BH)
    # A step's products are made at the end of the step before it: W, which is then met in two places, stays in
    # registers, where the compiler would read it anew at each step. Where no tensor core multiplies there is no room.
    HELD: tl.constexpr = (PRECISION != "ieee") or (w.dtype.element_ty != tl.float32)
    if HELD:
        p0, p1, p2, p3 = product(h, w0, w1, w2, w3, x0, x1, x2, x3, TAIL, PRECISION)
    for s in range(steps):
        if not HELD:
            p0, p1, p2, p3 = product(h, w0, w1, w2, w3, x0, x1, x2, x3, TAIL, PRECISION)
        alive = real & (s < length)[:, None]
        now, after = at + s * to_next, at + (s + 1) * to_next
        x0, x1, x2, x3 = load_gates(x, after * (GATES * H), (s + 1 < length)[:, None], GATES, H, BM, BH)
        if TAIL == "Lstm":
            g0, g1, g2, g3 = sigmoid(p0), sigmoid(p1), tanh(p2), sigmoid(p3)
            c = tl.where(alive, g1 * c + g0 * g2, c)
            new = g3 * tanh(c)
            if KEEP_C:
                tl.store(kept_c + now * H + unit, c, mask=alive)
        elif TAIL == "Gru":
            g0, g1, g3 = sigmoid(p0), sigmoid(p1), p2 + bias
            g2 = tanh(p3 + g0 * g3)
            new = g2 + g1 * (h - g2)
        elif TAIL == "RnnRelu":
            new = tl.where(p0 < 0, 0.0, p0)  # in this order a NaN passes
        else:
            new = tanh(p0)
        if KEEP_GATES:
            store_gates(kept_gates, now * (4 * H), (s < length)[:, None], g0, g1, g2, g3, H, BM, BH)
        h = tl.where(alive, new, h)
        if HELD:
            p0, p1, p2, p3 = product(h, w0, w1, w2, w3, x0, x1, x2, x3, TAIL, PRECISION)
        tl.store(y + (out + s * out_to_next) * H + unit, h.to(y.dtype.element_ty), mask=alive)
    tl.store(h_end + state_at, h, mask=real)
    if TAIL == "Lstm":
        tl.store(c_end + state_at, c, mask=real)
