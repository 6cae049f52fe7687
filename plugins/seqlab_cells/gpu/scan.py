"""Triton kernels of the fused scan, forward and backward.

A program has a tile of rows, one direction and one replica, and holds W over all steps; programs do not communicate. A
replica is a block of rows with its own weights: one launch runs all of them. The rows of a program are sorted by
length, and it ends with the longest of them. The state is float32 and never leaves the program; what is multiplied with
W is rounded to W's dtype, and summed in float32. The input is projected before, and read a step ahead of its use.
Backward writes the gates' gradients alone; the gradients of weights and inputs are single products over all steps of a
replica afterwards, so that every sum has a fixed order.
"""

# The arguments of a kernel have types of Triton's own.
# mypy: disable-error-code="no-untyped-def"

from typing import no_type_check

import triton  # type: ignore[import-untyped]  # it has no types
import triton.language as tl  # type: ignore[import-untyped]  # it has no types


@no_type_check
@triton.jit
def sigmoid(x):
    """Compute σ in float32, like everything below."""
    return 1.0 / (1.0 + tl.exp(-x))


@no_type_check
@triton.jit
def tanh(x):
    """Compute tanh; near zero by an odd polynomial (Cephes' tanhf), for the other form loses its digits there."""
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
def matrix(w, gate, TURNED: tl.constexpr, H: tl.constexpr, BH: tl.constexpr):
    """Load one gate's square of ``W_hh``, ``[to, from]``, or transposed ``[from, to]``, zero-padded to ``BH``."""
    row, column = tl.arange(0, BH)[:, None], tl.arange(0, BH)[None, :]
    square = tl.load(w + (gate * H + row) * H + column, mask=(row < H) & (column < H), other=0.0)
    if TURNED:
        square = tl.trans(square)
    return square


@no_type_check
@triton.jit
def matrices(w, chain, TURNED: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr, BH: tl.constexpr):
    """Load ``W_hh`` gate by gate; a cell of fewer gates gets the last one several times."""
    w += chain * (GATES * H * H)
    w0 = matrix(w, 0, TURNED, H, BH)
    w1, w2, w3 = w0, w0, w0
    if GATES >= 3:
        w1 = matrix(w, 1, TURNED, H, BH)
        w2 = matrix(w, 2, TURNED, H, BH)
        w3 = w2
    if GATES == 4:
        w3 = matrix(w, 3, TURNED, H, BH)
    return w0, w1, w2, w3


@no_type_check
@triton.jit
def program(directions):
    """Return a program's direction, its replica, and the number of its direction among those of all replicas.

    The last two are int64: what is multiplied with them may need it.
    """
    direction, replica = tl.program_id(1), tl.program_id(2).to(tl.int64)
    return direction, replica, replica * directions + direction


@no_type_check
@triton.jit
def rows_of(lengths, order, base, replica, batch, time, RAGGED: tl.constexpr, BM: tl.constexpr):
    """Return of each row of a program: whether it exists, its index, its length, the index of its first kept step.

    Its index is that in its replica, the index of its first kept step that among those of all replicas, of which rows
    without lengths have no need.
    """
    place = tl.program_id(0) * BM + tl.arange(0, BM)
    there = place < batch
    if RAGGED:
        begin = replica * batch
        row = tl.load(order + (begin + place), mask=there, other=0)
        length = tl.load(lengths + (begin + row), mask=there, other=0).to(tl.int32)
        first = tl.load(base + (begin + row), mask=there, other=0)
    else:
        row = place.to(tl.int64)
        length = tl.where(there, time, 0).to(tl.int32)
        first = row
    return there, row, length, first


@no_type_check
@triton.jit
def offsets(row, length, first, replica, direction, batch, time, directions, RAGGED: tl.constexpr):
    """Return the offsets of each row's first step in a direction, kept and in the output, and the strides to the next.

    In units of one direction's step. The offsets of rows stay as they are over all steps, so that threads never
    exchange them; what changes from step to step is the same for all rows. Full rows are kept as they are in the
    output, rows with lengths one after the other.
    """
    turned = direction == 1
    begin = tl.where(turned, tl.maximum(length - 1, 0), 0).to(tl.int64)
    way = tl.where(turned, -directions, directions).to(tl.int64)
    out = (((replica * time + begin) * batch + row) * directions + direction)[:, None]
    kept, to_next = out, way * batch
    if RAGGED:
        kept, to_next = ((first + begin) * directions + direction)[:, None], way
    return kept, out, to_next, way * batch


@no_type_check
@triton.jit
def load_gates(x, at, valid, GATES: tl.constexpr, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr):
    """Load a step's gates, which are adjacent, at once: threads then synchronise once instead of four times.

    ``at`` and ``valid`` are columns, one number a row. A cell of one gate gets it four times.
    """
    if GATES == 1:
        one = tl.arange(0, BH)[None, :]
        a0 = tl.load(x + (at + one), mask=valid & (one < H), other=0.0)
        a1, a2, a3 = a0, a0, a0
    else:
        column = tl.arange(0, 4 * BH)[None, :]
        gate, unit = column // BH, column % BH
        mine = tl.load(x + (at + (gate * H + unit)), mask=valid & (unit < H) & (gate < GATES), other=0.0)
        pairs = tl.reshape(tl.permute(tl.reshape(mine, (BM, 4, BH)), (0, 2, 1)), (BM, BH, 2, 2))
        even, odd = tl.split(pairs)
        a0, a2 = tl.split(even)
        a1, a3 = tl.split(odd)
    return a0, a1, a2, a3


@no_type_check
@triton.jit
def store_gates(to, at, valid, g0, g1, g2, g3, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr):
    """Store four gates of a step at once."""
    kind = to.dtype.element_ty
    column = tl.arange(0, 4 * BH)[None, :]
    gate, unit = column // BH, column % BH
    pairs = tl.join(tl.join(g0.to(kind), g2.to(kind)), tl.join(g1.to(kind), g3.to(kind)))
    mine = tl.reshape(tl.permute(tl.reshape(pairs, (BM, BH, 4)), (0, 2, 1)), (BM, 4 * BH))
    tl.store(to + (at + (gate * H + unit)), mine, mask=valid & (unit < H))


@no_type_check
@triton.jit
def forward_product(h, w0, w1, w2, w3, a0, a1, a2, a3, EPILOGUE: tl.constexpr, PRECISION: tl.constexpr):
    """Multiply the state with each gate's W and add the input's product, which of a GRU's candidate stays separate."""
    rounded = h.to(w0.dtype)
    p0 = tl.dot(rounded, w0, a0.to(tl.float32), input_precision=PRECISION)
    p1, p2, p3 = p0, p0, p0
    if EPILOGUE == "Gru":
        p1 = tl.dot(rounded, w1, a1.to(tl.float32), input_precision=PRECISION)
        p2 = tl.dot(rounded, w2, input_precision=PRECISION)
        p3 = a2.to(tl.float32)
    if EPILOGUE == "Lstm":
        p1 = tl.dot(rounded, w1, a1.to(tl.float32), input_precision=PRECISION)
        p2 = tl.dot(rounded, w2, a2.to(tl.float32), input_precision=PRECISION)
        p3 = tl.dot(rounded, w3, a3.to(tl.float32), input_precision=PRECISION)
    return p0, p1, p2, p3


@no_type_check
@triton.jit(do_not_specialize=["batch", "time", "directions"])
def forward(
    x,  # [kept steps of all replicas, directions, gates, H]: the projected inputs, biases added
    w,  # [replicas, directions, gates * H, H]
    b_n,  # [replicas, directions, H], float32: of a GRU's candidate, the bias of the state's product
    h0,  # [replicas, directions, batch, H], float32, as are the other states
    c0,
    y,  # [replicas, time, batch, directions * H]
    h_end,
    c_end,
    kept_c,  # [kept steps, directions, H], float32
    kept_gates,  # [kept steps, directions, 4, H]
    lengths,  # [replicas, batch], int64, as are the two that follow
    order,
    base,
    batch,
    time,
    directions,
    EPILOGUE: tl.constexpr,
    GATES: tl.constexpr,
    H: tl.constexpr,
    BH: tl.constexpr,
    BM: tl.constexpr,
    RAGGED: tl.constexpr,
    KEEP_C: tl.constexpr,
    KEEP_GATES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Scan one tile of rows of one replica in one direction."""
    direction, replica, chain = program(directions)
    there, row, length, first = rows_of(lengths, order, base, replica, batch, time, RAGGED, BM)
    steps = tl.max(length, axis=0)
    unit = tl.arange(0, BH)[None, :]
    real = there[:, None] & (unit < H)
    state_at = (chain * batch + row)[:, None] * H + unit
    h = tl.load(h0 + state_at, mask=real, other=0.0)
    c = h
    if EPILOGUE == "Lstm":
        c = tl.load(c0 + state_at, mask=real, other=0.0)
    w0, w1, w2, w3 = matrices(w, chain, True, GATES, H, BH)
    if EPILOGUE == "Gru":
        bias = tl.load(b_n + chain * H + unit, mask=unit < H, other=0.0)
    at, out, to_next, out_to_next = offsets(row, length, first, replica, direction, batch, time, directions, RAGGED)
    x0, x1, x2, x3 = load_gates(x, at * (GATES * H), (length > 0)[:, None], GATES, H, BM, BH)
    # A step's products are computed at the end of the step before it: W, which is then used in two places, stays in
    # registers, where the compiler would load it anew at each step. Without tensor cores there is no room for that.
    HELD: tl.constexpr = (PRECISION != "ieee") or (w.dtype.element_ty != tl.float32)
    if HELD:
        p0, p1, p2, p3 = forward_product(h, w0, w1, w2, w3, x0, x1, x2, x3, EPILOGUE, PRECISION)
    for s in range(steps):
        if not HELD:
            p0, p1, p2, p3 = forward_product(h, w0, w1, w2, w3, x0, x1, x2, x3, EPILOGUE, PRECISION)
        valid = real & (s < length)[:, None]
        now, after = at + s * to_next, at + (s + 1) * to_next
        x0, x1, x2, x3 = load_gates(x, after * (GATES * H), (s + 1 < length)[:, None], GATES, H, BM, BH)
        if EPILOGUE == "Lstm":
            g0, g1, g2, g3 = sigmoid(p0), sigmoid(p1), tanh(p2), sigmoid(p3)
            c = tl.where(valid, g1 * c + g0 * g2, c)
            new = g3 * tanh(c)
            if KEEP_C:
                tl.store(kept_c + now * H + unit, c, mask=valid)
        elif EPILOGUE == "Gru":
            g0, g1, g3 = sigmoid(p0), sigmoid(p1), p2 + bias
            g2 = tanh(p3 + g0 * g3)
            new = g2 + g1 * (h - g2)
        elif EPILOGUE == "RnnRelu":
            new = tl.where(p0 < 0, 0.0, p0)  # in this order a NaN passes
        else:
            new = tanh(p0)
        if KEEP_GATES:
            store_gates(kept_gates, now * (4 * H), (s < length)[:, None], g0, g1, g2, g3, H, BM, BH)
        h = tl.where(valid, new, h)
        if HELD:
            p0, p1, p2, p3 = forward_product(h, w0, w1, w2, w3, x0, x1, x2, x3, EPILOGUE, PRECISION)
        tl.store(y + (out + s * out_to_next) * H + unit, h.to(y.dtype.element_ty), mask=valid)
    tl.store(h_end + state_at, h, mask=real)
    if EPILOGUE == "Lstm":
        tl.store(c_end + state_at, c, mask=real)


@no_type_check
@triton.jit
def read_step(
    gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, s, real, length,
    EPILOGUE: tl.constexpr, H: tl.constexpr, BM: tl.constexpr, BH: tl.constexpr, HAS_DY: tl.constexpr,
):  # fmt: skip
    """Load what step ``s`` needs: its gates, its output's gradient, and the state before it in float32.

    The state is c of an LSTM and h of a GRU; of an RNN it is the step's own output. The step after a row's last one is
    loaded too, for the state before it is that row's last c.
    """
    now = ((s >= 0) & (s < length))[:, None]
    valid = real & now
    unit = tl.arange(0, BH)[None, :]
    here = (out + s * out_to_next) * H + unit
    d = tl.load(dy + here, mask=valid, other=0.0) if HAS_DY else tl.zeros(real.shape, gates.dtype.element_ty)
    if EPILOGUE == "Lstm" or EPILOGUE == "Gru":
        g0, g1, g2, g3 = load_gates(gates, (at + s * to_next) * (4 * H), now, 4, H, BM, BH)
        before = (at + (s - 1) * to_next) * H + unit if EPILOGUE == "Lstm" else (out + (s - 1) * out_to_next) * H + unit
        e = tl.load(earlier + before, mask=real & ((s >= 1) & (s <= length))[:, None], other=0.0).to(tl.float32)
        e = tl.where(s == 0, tl.load(start + state_at, mask=real & (s == 0), other=0.0), e)
    else:
        e = tl.load(earlier + here, mask=valid, other=0.0).to(tl.float32)
        g0, g1, g2, g3 = d, d, d, d
    return g0, g1, g2, g3, d, e


@no_type_check
@triton.jit
def backward_product(q0, q1, q2, q3, w0, w1, w2, w3, EPILOGUE: tl.constexpr, PRECISION: tl.constexpr):
    """Multiply the gates' gradients with W: independent products, then their sum."""
    if EPILOGUE == "Lstm":
        new = tl.dot(q0, w0, input_precision=PRECISION) + tl.dot(q1, w1, input_precision=PRECISION)
        new += tl.dot(q2, w2, input_precision=PRECISION) + tl.dot(q3, w3, input_precision=PRECISION)
    elif EPILOGUE == "Gru":  # the last plane is the input's alone
        new = tl.dot(q0, w2, input_precision=PRECISION) + tl.dot(q1, w0, input_precision=PRECISION)
        new += tl.dot(q2, w1, input_precision=PRECISION)
    else:
        new = tl.dot(q0, w0, input_precision=PRECISION)
    return new


@no_type_check
@triton.jit(do_not_specialize=["batch", "time", "directions"])
def backward(
    dy,  # [replicas, time, batch, directions * H]
    dh_end,  # [replicas, directions, batch, H], float32, as are the other states and their gradients
    dc_end,
    gates,  # [kept steps of all replicas, directions, 4, H]
    earlier,  # of an LSTM the kept c, [kept steps, directions, H]; else y
    start,  # of an LSTM c0, else h0
    w,  # [replicas, directions, gates * H, H]
    planes,  # [kept steps, directions, PLANES, H]: the gates' gradients
    dh0,
    dc0,
    lengths,  # [replicas, batch], int64, as are the two that follow
    order,
    base,
    batch,
    time,
    directions,
    EPILOGUE: tl.constexpr,
    GATES: tl.constexpr,
    H: tl.constexpr,
    BH: tl.constexpr,
    BM: tl.constexpr,
    RAGGED: tl.constexpr,
    HAS_DY: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Differentiate one tile of rows of one replica in one direction."""
    direction, replica, chain = program(directions)
    there, row, length, first = rows_of(lengths, order, base, replica, batch, time, RAGGED, BM)
    steps = tl.max(length, axis=0)
    unit = tl.arange(0, BH)[None, :]
    real = there[:, None] & (unit < H)
    state_at = (chain * batch + row)[:, None] * H + unit
    kind: tl.constexpr = w.dtype.element_ty
    dh = tl.load(dh_end + state_at, mask=real, other=0.0)
    dc = dh
    if EPILOGUE == "Lstm":
        dc = tl.load(dc_end + state_at, mask=real, other=0.0)
    w0, w1, w2, w3 = matrices(w, chain, False, GATES, H, BH)
    at, out, to_next, out_to_next = offsets(row, length, first, replica, direction, batch, time, directions, RAGGED)
    c = read_step(
        gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, steps, real, length,
        EPILOGUE, H, BM, BH, HAS_DY,
    )[5]  # fmt: skip
    n0, n1, n2, n3, nd, ne = read_step(
        gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, steps - 1, real, length,
        EPILOGUE, H, BM, BH, HAS_DY,
    )  # fmt: skip
    for back in range(steps):
        s = steps - 1 - back
        g0, g1, g2, g3 = n0.to(tl.float32), n1.to(tl.float32), n2.to(tl.float32), n3.to(tl.float32)
        arriving, e = nd.to(tl.float32), ne
        n0, n1, n2, n3, nd, ne = read_step(
            gates, earlier, start, dy, at, out, to_next, out_to_next, state_at, s - 1, real, length,
            EPILOGUE, H, BM, BH, HAS_DY,
        )  # fmt: skip
        valid = real & (s < length)[:, None]
        d = dh + arriving
        through = tl.zeros((BM, BH), tl.float32)
        if EPILOGUE == "Lstm":
            squashed = tanh(c)
            into_c = d * g3 * (1.0 - squashed * squashed) + dc
            f0, f1 = into_c * g0 * g2 * (1.0 - g0), into_c * g1 * e * (1.0 - g1)
            f2, f3 = into_c * g0 * (1.0 - g2 * g2), d * g3 * squashed * (1.0 - g3)
            dc = tl.where(valid, into_c * g1, dc)
            c = e
        elif EPILOGUE == "Gru":
            into = d * (1.0 - g1)
            f3 = into * (1.0 - g2 * g2)
            f2 = into * g1 * (e - g2)
            f0 = f3 * g0
            f1 = f0 * g3 * (1.0 - g0)
            through = d * g1
        elif EPILOGUE == "RnnRelu":
            f0 = tl.where(e > 0, d, 0.0)
        else:
            f0 = d * (1.0 - e * e)
        now = (at + s * to_next) * H
        q0 = tl.where(valid, f0, 0.0).to(kind)
        q1, q2, q3 = q0, q0, q0
        if GATES == 1:
            tl.store(planes + now + unit, q0, mask=valid)
        else:
            q1, q2 = tl.where(valid, f1, 0.0).to(kind), tl.where(valid, f2, 0.0).to(kind)
            q3 = tl.where(valid, f3, 0.0).to(kind)
            store_gates(planes, now * 4, (s < length)[:, None], q0, q1, q2, q3, H, BM, BH)
        dh = tl.where(valid, through, dh) + backward_product(q0, q1, q2, q3, w0, w1, w2, w3, EPILOGUE, PRECISION)
    tl.store(dh0 + state_at, dh, mask=real)
    if EPILOGUE == "Lstm":
        tl.store(dc0 + state_at, dc, mask=real)
