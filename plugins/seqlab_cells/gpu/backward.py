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

from seqlab_cells.gpu.arithmetic import load_gates, matrices, places, rows_of, store_gates, tanh


@no_type_check
@triton.jit
def read_step(
    gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, s, real, length,
    TAIL: tl.constexpr, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr, HAS_DY: tl.constexpr,
):  # fmt: skip
    """Read what step ``s`` needs, as it lies: its gates, its output's gradient, and what stood before it in float32.

    That is c of an LSTM and h of a GRU; of an RNN it is the step's own output. A step further than a row's last one is
    read too, for its "before" is that row's last c.
    """
    now = ((s >= 0) & (s < length))[:, None]
    alive = real & now
    unit = tl.arange(0, BH)[None, :]
    here = (out + s * out_to_next) * H + unit
    d = tl.load(dy + here, mask=alive, other=0.0) if HAS_DY else tl.zeros(real.shape, gates.dtype.element_ty)
    if TAIL == "Lstm" or TAIL == "Gru":
        g0, g1, g2, g3 = load_gates(gates, (at + s * to_next) * (4 * H), now, 4, H, BM, BH)
        before = (at + (s - 1) * to_next) * H + unit if TAIL == "Lstm" else (out + (s - 1) * out_to_next) * H + unit
        e = tl.load(earlier + before, mask=real & ((s >= 1) & (s <= length))[:, None], other=0.0).to(tl.float32)
        e = tl.where(s == 0, tl.load(start + state_at, mask=real & (s == 0), other=0.0), e)
    else:
        e = tl.load(earlier + here, mask=alive, other=0.0).to(tl.float32)
        g0, g1, g2, g3 = d, d, d, d
    return g0, g1, g2, g3, d, e


@no_type_check
@triton.jit
def product(q0, q1, q2, q3, w0, w1, w2, w3, TAIL: tl.constexpr, PRECISION: tl.constexpr):
    """Take the gates' gradients back through W: products that do not wait for one another, then their sum."""
    if TAIL == "Lstm":
        new = tl.dot(q0, w0, input_precision=PRECISION) + tl.dot(q1, w1, input_precision=PRECISION)
        new += tl.dot(q2, w2, input_precision=PRECISION) + tl.dot(q3, w3, input_precision=PRECISION)
    elif TAIL == "Gru":  # the last plane is the input's alone
        new = tl.dot(q0, w2, input_precision=PRECISION) + tl.dot(q1, w0, input_precision=PRECISION)
        new += tl.dot(q2, w1, input_precision=PRECISION)
    else:
        new = tl.dot(q0, w0, input_precision=PRECISION)
    return new


@no_type_check
@triton.jit(do_not_specialize=["batch", "time", "stride", "directions"])
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
    directions,
    TAIL: tl.constexpr,
    GATES: tl.constexpr,
    H: tl.constexpr,
    BH: tl.constexpr,
    BM: tl.constexpr,
    RAGGED: tl.constexpr,
    HAS_DY: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Walk one tile of rows back in one direction."""
    direction = tl.program_id(1)
    there, row, length, first = rows_of(lengths, order, base, batch, time, RAGGED, BM)
    steps = tl.max(length, axis=0)
    unit = tl.arange(0, BH)[None, :]
    real = there[:, None] & (unit < H)
    state_at = ((direction * batch).to(tl.int64) + row)[:, None] * H + unit
    kind: tl.constexpr = w.dtype.element_ty
    dh = tl.load(dh_end + state_at, mask=real, other=0.0)
    dc = dh
    if TAIL == "Lstm":
        dc = tl.load(dc_end + state_at, mask=real, other=0.0)
    w0, w1, w2, w3 = matrices(w, direction, False, GATES, H, BH)
    at, out, to_next, out_to_next = places(row, length, first, direction, batch, stride, directions)
    c = read_step(
        gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, steps, real, length,
        TAIL, H, BM, BH, HAS_DY,
    )[5]  # fmt: skip
    n0, n1, n2, n3, nd, ne = read_step(
        gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, steps - 1, real, length,
        TAIL, H, BM, BH, HAS_DY,
    )  # fmt: skip
    for back in range(steps):
        s = steps - 1 - back
        g0, g1, g2, g3 = n0.to(tl.float32), n1.to(tl.float32), n2.to(tl.float32), n3.to(tl.float32)
        arriving, e = nd.to(tl.float32), ne
        n0, n1, n2, n3, nd, ne = read_step(
            gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, s - 1, real, length,
            TAIL, H, BM, BH, HAS_DY,
        )  # fmt: skip
        alive = real & (s < length)[:, None]
        d = dh + arriving
        through = tl.zeros((BM, BH), tl.float32)
        if TAIL == "Lstm":
            squashed = tanh(c)
            into_c = d * g3 * (1.0 - squashed * squashed) + dc
            f0, f1 = into_c * g0 * g2 * (1.0 - g0), into_c * g1 * e * (1.0 - g1)
            f2, f3 = into_c * g0 * (1.0 - g2 * g2), d * g3 * squashed * (1.0 - g3)
            dc = tl.where(alive, into_c * g1, dc)
            c = e
        elif TAIL == "Gru":
            into = d * (1.0 - g1)
            f3 = into * (1.0 - g2 * g2)
            f2 = into * g1 * (e - g2)
            f0 = f3 * g0
            f1 = f0 * g3 * (1.0 - g0)
            through = d * g1
        elif TAIL == "RnnRelu":
            f0 = tl.where(e > 0, d, 0.0)
        else:
            f0 = d * (1.0 - e * e)
        now = (at + s * to_next) * H
        q0 = tl.where(alive, f0, 0.0).to(kind)
        q1, q2, q3 = q0, q0, q0
        if GATES == 1:
            tl.store(planes + now + unit, q0, mask=alive)
        else:
            q1, q2 = tl.where(alive, f1, 0.0).to(kind), tl.where(alive, f2, 0.0).to(kind)
            q3 = tl.where(alive, f3, 0.0).to(kind)
            store_gates(planes, now * 4, (s < length)[:, None], q0, q1, q2, q3, H, BM, BH)
        dh = tl.where(alive, through, dh) + product(q0, q1, q2, q3, w0, w1, w2, w3, TAIL, PRECISION)
    tl.store(dh0 + state_at, dh, mask=real)
    if TAIL == "Lstm":
        tl.store(dc0 + state_at, dc, mask=real)
