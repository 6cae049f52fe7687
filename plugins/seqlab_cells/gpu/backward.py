"""The walk back: the gradient of each step's gates, and of the initial state.

As the walk forward: a program has some rows and a direction, and holds W. It writes the gates' gradients; the products
that make the weights' and the inputs' of them are single ones over all steps, afterwards, so that nothing is added in
an order that chance decides.
"""

# The arguments of a kernel have types of Triton's own.
# mypy: disable-error-code="no-untyped-def"

from typing import no_type_check

import triton  # type: ignore[import-untyped]  # it has no types
import triton.language as tl  # type: ignore[import-untyped]  # it has no types

from seqlab_cells.gpu.arithmetic import matrix, rows_of, tanh
from seqlab_cells.gpu.forward import load_gates, store_gates


@no_type_check
@triton.jit
def read_step(
    gates, earlier, start, dy, at, before, out, state_at, s, real, length, unit,
    TAIL: tl.constexpr, H: tl.constexpr, HAS_DY: tl.constexpr,
):  # fmt: skip
    """Read what step ``s`` needs: its gates, its output's gradient, and what stood before it.

    That is c of an LSTM and h of a GRU; of an RNN it is the step's own output. A step further than a row's last one is
    read too, for its "before" is that row's last c.
    """
    alive = real & ((s >= 0) & (s < length))[:, None]
    d = tl.load(dy + out, mask=alive, other=0.0).to(tl.float32) if HAS_DY else tl.zeros(real.shape, tl.float32)
    if TAIL == "Lstm" or TAIL == "Gru":
        g0, g1, g2, g3 = load_gates(gates, at * 4 + unit, alive, 4, H)
        e = tl.load(earlier + before, mask=real & ((s >= 1) & (s <= length))[:, None], other=0.0).to(tl.float32)
        e = tl.where(s == 0, tl.load(start + state_at, mask=real & (s == 0), other=0.0), e)
    else:
        e = tl.load(earlier + out, mask=alive, other=0.0).to(tl.float32)
        g0, g1, g2, g3 = e, e, e, e
    return g0.to(tl.float32), g1.to(tl.float32), g2.to(tl.float32), g3.to(tl.float32), d, e


@no_type_check
@triton.jit
def places(
    row, length, first, direction, unit, s, batch, stride,
    directions: tl.constexpr, TAIL: tl.constexpr, H: tl.constexpr,
):  # fmt: skip
    """Say where a step's kept numbers, those before them and its output lie."""
    turned = direction == 1
    t = tl.where(turned, length - 1 - s, s)
    t_before = tl.where(turned, t + 1, t - 1)
    at = ((first + t * stride) * directions + direction)[:, None] * H
    out = ((t * batch + row) * directions + direction)[:, None] * H + unit
    if TAIL == "Lstm":
        before = ((first + t_before * stride) * directions + direction)[:, None] * H + unit
    else:
        before = ((t_before * batch + row) * directions + direction)[:, None] * H + unit
    return at, before, out


@no_type_check
@triton.jit(do_not_specialize=["batch", "time", "stride"])
def backward(
    dy,  # [time, batch, directions * H]
    dh_end,  # [directions, batch, H], float32, as are the other states and their gradients
    dc_end,
    gates,  # [kept steps, directions, 4, H]
    earlier,  # of an LSTM the kept c, [kept steps, directions, H]; else y
    start,  # of an LSTM c0, else h0
    w,  # [directions, gates * H, H]
    planes,  # [kept steps, directions, PLANES, H]: the gates' gradients
    dh0,
    dc0,
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
    HAS_DY: tl.constexpr,
    HAS_DH: tl.constexpr,
    HAS_DC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Walk one tile of rows back in one direction."""
    direction = tl.program_id(1)
    there, row, length, first = rows_of(lengths, order, base, batch, time, RAGGED, BM)
    steps = tl.max(length, axis=0)
    unit = tl.arange(0, BH)[None, :]
    real = there[:, None] & (unit < H)
    state_at = ((direction * batch).to(tl.int64) + row)[:, None] * H + unit
    dh, dc = tl.zeros((BM, BH), tl.float32), tl.zeros((BM, BH), tl.float32)
    if HAS_DH:
        dh = tl.load(dh_end + state_at, mask=real, other=0.0)
    if HAS_DC:
        dc = tl.load(dc_end + state_at, mask=real, other=0.0)
    w0 = matrix(w, direction, 0, False, GATES, H, BH)
    if GATES >= 3:
        w1 = matrix(w, direction, 1, False, GATES, H, BH)
        w2 = matrix(w, direction, 2, False, GATES, H, BH)
    if GATES == 4:
        w3 = matrix(w, direction, 3, False, GATES, H, BH)
    at, before, out = places(row, length, first, direction, unit, steps, batch, stride, directions, TAIL, H)
    c = read_step(gates, earlier, start, dy, at, before, out, state_at, steps, real, length, unit, TAIL, H, HAS_DY)[5]
    at, before, out = places(row, length, first, direction, unit, steps - 1, batch, stride, directions, TAIL, H)
    n0, n1, n2, n3, nd, ne = read_step(
        gates, earlier, start, dy, at, before, out, state_at, steps - 1, real, length, unit, TAIL, H, HAS_DY
    )
    for back in range(steps):
        s = steps - 1 - back
        g0, g1, g2, g3, arriving, e, now = n0, n1, n2, n3, nd, ne, at
        at, before, out = places(row, length, first, direction, unit, s - 1, batch, stride, directions, TAIL, H)
        n0, n1, n2, n3, nd, ne = read_step(
            gates, earlier, start, dy, at, before, out, state_at, s - 1, real, length, unit, TAIL, H, HAS_DY
        )
        alive = real & (s < length)[:, None]
        d = dh + arriving
        if TAIL == "Lstm":
            squashed = tanh(c)
            into_c = d * g3 * (1.0 - squashed * squashed) + dc
            q0, q1 = into_c * g0 * g2 * (1.0 - g0), into_c * g1 * e * (1.0 - g1)
            q2, q3 = into_c * g0 * (1.0 - g2 * g2), d * g3 * squashed * (1.0 - g3)
            dc = tl.where(alive, into_c * g1, dc)
            c = e
        elif TAIL == "Gru":
            into = d * (1.0 - g1)
            q3 = into * (1.0 - g2 * g2)
            q2 = into * g1 * (e - g2)
            q0 = q3 * g0
            q1 = q0 * g3 * (1.0 - g0)
        elif TAIL == "RnnRelu":
            q0 = tl.where(e > 0, d, 0.0)
        else:
            q0 = d * (1.0 - e * e)
        kind = w.dtype.element_ty
        if TAIL == "Lstm":
            store_gates(planes, now * 4 + unit, alive, q0, q1, q2, q3, H)
            new = tl.dot(q0.to(kind), w0, input_precision=PRECISION)
            new = tl.dot(q1.to(kind), w1, new, input_precision=PRECISION)
            new = tl.dot(q2.to(kind), w2, new, input_precision=PRECISION)
            new = tl.dot(q3.to(kind), w3, new, input_precision=PRECISION)
        elif TAIL == "Gru":
            store_gates(planes, now * 4 + unit, alive, q0, q1, q2, q3, H)
            new = tl.dot(q0.to(kind), w2, input_precision=PRECISION)
            new = tl.dot(q1.to(kind), w0, new, input_precision=PRECISION)
            new = tl.dot(q2.to(kind), w1, new, input_precision=PRECISION) + d * g1
        else:
            tl.store(planes + now + unit, q0.to(planes.dtype.element_ty), mask=alive)
            new = tl.dot(q0.to(kind), w0, input_precision=PRECISION)
        dh = tl.where(alive, new, dh)
    tl.store(dh0 + state_at, dh, mask=real)
    if TAIL == "Lstm":
        tl.store(dc0 + state_at, dc, mask=real)
