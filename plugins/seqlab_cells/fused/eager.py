"""The fused scan in torch alone, for where nothing can be compiled.

The input is projected for all steps at once. Backward multiplies each step's gradient with factors that are computed
for all steps at once, so that a step is a handful of calls; the weights' gradients are one product at the end. Rows are
sorted by length: the rows with a valid step come first. Autocast is off: all is in the parameters' precision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, autocast

from seqlab.contracts.masks import zero_padding
from seqlab.recurrence import reverse_within
from seqlab_cells.fused.native import kept_per_step
from seqlab_cells.weights import Epilogue, Layer, Results


class _Rows:
    """A batch as one direction reads it: rows sorted by length, time reversed if it reads backward."""

    def __init__(self, time: int, lengths: Tensor | None, backward: bool) -> None:
        self.backward, self.time = backward, time
        self.lengths: Tensor | None = None
        self.active: list[int] | None = None
        if lengths is not None:
            self.lengths, self.order = lengths.sort(descending=True, stable=True)
            self.place = self.order.argsort()
            self.active = (self.lengths > torch.arange(time).unsqueeze(1)).sum(1).tolist()

    def sorted(self, tensor: Tensor) -> Tensor:
        return tensor if self.lengths is None else tensor[self.order]

    def unsorted(self, tensor: Tensor) -> Tensor:
        return tensor if self.lengths is None else tensor[self.place]

    def enter(self, x: Tensor) -> Tensor:
        """Return ``[time, batch, ...]`` as this direction reads it, zero on padding."""
        if self.lengths is not None:
            x = zero_padding(x[:, self.order], self.lengths)
        return reverse_within(x, self.lengths) if self.backward else x

    def leave(self, y: Tensor) -> Tensor:
        y = reverse_within(y, self.lengths) if self.backward else y
        return y if self.lengths is None else zero_padding(y, self.lengths)[:, self.place]

    def steps(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """Return each step's rows with a valid step, of every tensor ``[time, batch, ...]``."""
        found = list(zip(*(tensor.unbind() for tensor in tensors), strict=True))
        if self.active is None:
            return found
        return [tuple(each[:n] for each in step) for step, n in zip(found, self.active, strict=True)]

    def last(self, states: Tensor) -> Tensor:
        """Return the states after each row's last step, of ``[time + 1, batch, hidden]``."""
        if self.lengths is None:
            return states[-1]
        return states[self.lengths, torch.arange(states.shape[1])]


class _Direction(NamedTuple):
    rows: _Rows
    x: Tensor
    h0: Tensor
    c0: Tensor | None
    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor
    b_hh: Tensor

    def projected(self) -> Tensor:
        return torch.addmm(self.b_ih, self.x.flatten(0, 1), self.w_ih.t()).view(*self.x.shape[:2], len(self.b_ih))


def _directions(layer: Layer) -> list[_Direction]:
    found = []
    for d in range(layer.directions):
        rows = _Rows(len(layer.x), layer.lengths, d == 1)
        h0, *rest = (rows.sorted(tensor) for tensor in layer.state(d))
        found.append(_Direction(rows, rows.enter(layer.x), h0, rest[0] if rest else None, *layer.weight(d)))
    return found


@autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]  # torch leaves its type out
def forward(layer: Layer) -> Results:
    """Scan one layer, as :func:`.ops.fused_scan` does."""
    (time, batch, _), epilogue, hidden = layer.x.shape, layer.epilogue, layer.hidden
    # Zeros, for factors are computed of the padding's gates too, and a NaN there would meet a gradient of 0.
    new = layer.x.new_empty if layer.lengths is None else layer.x.new_zeros
    kept = new(layer.directions * time * batch * kept_per_step(layer))
    outputs, h_ends, c_ends = [], [], []
    for d, each in enumerate(_directions(layer)):
        gates = _part(kept, d, (time, batch, epilogue.kept, hidden)) if layer.save == "gates" else None
        if gates is None:
            gates = layer.x.new_zeros(1, batch, epilogue.kept, hidden).expand(time, -1, -1, -1)
        hs, cs = _steps(each, gates, epilogue)
        if layer.save == "recompute" and cs is not None:
            _part(kept, d, (time, batch, hidden)).copy_(cs[1:])
        outputs.append(each.rows.leave(hs[1:]))
        h_ends.append(each.rows.unsorted(each.rows.last(hs)))
        if cs is not None:
            c_ends.append(each.rows.unsorted(each.rows.last(cs)))
    c_end = torch.stack(c_ends) if c_ends else layer.x.new_empty(0, batch, hidden)
    return torch.cat(outputs, dim=-1).contiguous(), torch.stack(h_ends), c_end, kept


def _part(kept: Tensor, d: int, shape: tuple[int, ...]) -> Tensor:
    size = torch.Size(shape).numel()
    return kept[d * size : (d + 1) * size].view(shape)


def _steps(each: _Direction, gates: Tensor, epilogue: Epilogue) -> tuple[Tensor, Tensor | None]:
    """Run all steps; fill the gates, return the states before the first and after each step."""
    time, batch, hidden = len(each.x), *each.h0.shape
    hs = each.h0.new_zeros(time + 1, batch, hidden)
    hs[0] = each.h0
    projected, turned = each.projected(), each.w_hh.t()
    if epilogue.name == "Gru":
        for x, g, h, new in each.rows.steps(projected, gates, hs[:-1], hs[1:]):
            product = torch.addmm(each.b_hh, h, turned).view(len(h), 3, hidden)
            x = x.view(len(h), 3, hidden)
            torch.add(x[:, :2], product[:, :2], out=g[:, :2]).sigmoid_()
            g[:, 3] = product[:, 2]
            torch.addcmul(x[:, 2], g[:, 0], product[:, 2], out=g[:, 2]).tanh_()
            torch.lerp(g[:, 2], h, g[:, 1], out=new)
        return hs, None
    projected += each.b_hh
    if epilogue.name == "Lstm":
        assert each.c0 is not None
        cs = torch.zeros_like(hs)
        cs[0] = each.c0
        for x, g, h, new, c, new_c in each.rows.steps(projected, gates, hs[:-1], hs[1:], cs[:-1], cs[1:]):
            g[:, :4] = torch.addmm(x, h, turned).view(len(h), 4, hidden)
            g[:, :2].sigmoid_()
            g[:, 2].tanh_()
            g[:, 3].sigmoid_()
            torch.mul(g[:, 1], c, out=new_c).addcmul_(g[:, 0], g[:, 2])
            g[:, 4] = new_c
            torch.tanh(new_c, out=new).mul_(g[:, 3])
        return hs, cs
    squash = torch.relu_ if epilogue.name == "RnnRelu" else torch.tanh_
    for x, h, new in each.rows.steps(projected, hs[:-1], hs[1:]):
        squash(torch.addmm(x, h, turned, out=new))
    return hs, None


@autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]  # torch leaves its type out
def backward(
    layer: Layer, gradients: Sequence[Tensor | None], y: Tensor, kept: Tensor, wanted: Sequence[bool]
) -> Results:
    """Differentiate the scan, as :func:`.native.backward` does."""
    (time, batch, _), hidden = layer.x.shape, layer.hidden
    dxs, dh0s, dc0s, dws = [], [], [], []
    for d, each in enumerate(_directions(layer)):
        mine = slice(d * hidden, (d + 1) * hidden)
        before = torch.cat([each.h0.unsqueeze(0), each.rows.enter(y[..., mine])])[:time]
        gates = _gates(each, kept, d, before, layer)
        dy = None if gradients[0] is None else gradients[0][..., mine]
        ends = [None if tensor is None else each.rows.sorted(tensor[d]) for tensor in gradients[1:]]
        of_input, of_state, dh0, dc0 = _steps_back(each, gates, before, y[..., mine], dy, ends, layer.epilogue)
        dh0s.append(each.rows.unsorted(dh0))
        if dc0 is not None:
            dc0s.append(each.rows.unsorted(dc0))
        if wanted[0]:
            dxs.append(each.rows.leave((of_input @ each.w_ih).view_as(layer.x)))
        if wanted[1]:
            products = (of_input.t() @ each.x.flatten(0, 1), of_state.t() @ before.flatten(0, 1))
            dws.append(torch.cat([*(part.flatten() for part in products), of_input.sum(0), of_state.sum(0)]))
    empty = layer.x.new_empty(0)
    dc = torch.stack(dc0s) if dc0s else layer.x.new_empty(0, batch, hidden)
    return torch.stack(dxs).sum(0) if dxs else empty, torch.stack(dh0s), dc, torch.stack(dws) if dws else empty


def _gates(each: _Direction, kept: Tensor, d: int, before: Tensor, layer: Layer) -> Tensor:
    """Return the gates of all steps, kept or recomputed from the states before each step."""
    time, batch, hidden = before.shape
    epilogue = layer.epilogue
    if layer.save == "gates" or not epilogue.kept:
        return _part(kept, d, (time, batch, epilogue.kept, hidden))
    product = torch.addmm(each.b_hh, before.flatten(0, 1), each.w_hh.t()).view(time, batch, epilogue.gates, hidden)
    projected = each.projected().view_as(product)
    if epilogue.name == "Gru":
        r, z = (projected[:, :, :2] + product[:, :, :2]).sigmoid().unbind(2)
        return torch.stack([r, z, torch.tanh(projected[:, :, 2] + r * product[:, :, 2]), product[:, :, 2]], dim=2)
    i, f, g, o = (projected + product).unbind(2)
    return torch.stack([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid(), _part(kept, d, (time, batch, hidden))], dim=2)


def _steps_back(
    each: _Direction,
    gates: Tensor,
    before: Tensor,
    y: Tensor,
    dy: Tensor | None,
    ends: Sequence[Tensor | None],
    epilogue: Epilogue,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradients of all products with the input and with the state, and of the initial state."""
    time, batch, hidden = before.shape
    into = torch.zeros_like(before) if dy is None else each.rows.enter(dy).contiguous()
    if ends[0] is not None:
        into = into.clone()  # it may be the caller's own
        _add_at_end(into, ends[0], each.rows)
    dh = before.new_zeros(batch, hidden)
    if ends[0] is not None and each.rows.lengths is not None:
        dh += ends[0] * (each.rows.lengths == 0).unsqueeze(1)
    elif ends[0] is not None and not time:
        dh += ends[0]
    dc = None if epilogue.states == 1 else (before.new_zeros(batch, hidden) if ends[1] is None else ends[1].clone())
    of_state = before.new_zeros(time, batch, epilogue.gates, hidden)
    of_input = of_state
    if epilogue.name == "Gru":
        of_input = _gru_back(each, gates, before, into, of_state, dh)
    elif epilogue.name == "Lstm":
        assert dc is not None
        _lstm_back(each, gates, into, of_state, dh, dc)
    else:
        _rnn_back(each, each.rows.enter(y), into, of_state, dh, relu=epilogue.name == "RnnRelu")
    return _flat(of_input), _flat(of_state), dh, dc


def _gru_back(each: _Direction, gates: Tensor, before: Tensor, into: Tensor, of_state: Tensor, dh: Tensor) -> Tensor:
    """Fill the gradients of the products with the state; return those of the products with the input."""
    r, z, n, product = gates.unbind(2)
    of_n = (1 - z) * (1 - n * n)
    factor = torch.stack([of_n * product * r * (1 - r), (before - n) * z * (1 - z), of_n * r], dim=2)
    for d, out, a, keep in reversed(each.rows.steps(into, of_state, factor, z)):
        d += dh[: len(d)]
        torch.mul(d.unsqueeze(1), a, out=out)
        torch.addmm(d * keep, out.flatten(1), each.w_hh, out=dh[: len(d)])
    return torch.cat([of_state[:, :, :2], (into * of_n).unsqueeze(2)], dim=2)


def _lstm_back(each: _Direction, gates: Tensor, into: Tensor, of_state: Tensor, dh: Tensor, dc: Tensor) -> None:
    """Fill the gradients of the gates, from which those of both products are."""
    i, f, g, o, c = gates.unbind(2)
    assert each.c0 is not None
    squashed, c_before = torch.tanh(c), torch.cat([each.c0.unsqueeze(0), c])[: len(c)]
    of_c = torch.stack([g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g)], dim=2)
    of_o, through = squashed * o * (1 - o), o * (1 - squashed * squashed)
    for d, out, a, b, t, keep in reversed(each.rows.steps(into, of_state, of_c, of_o, through, f)):
        d += dh[: len(d)]
        carried = dc[: len(d)].addcmul_(d, t)
        torch.mul(carried.unsqueeze(1), a, out=out[:, :3])
        torch.mul(d, b, out=out[:, 3])
        carried *= keep
        torch.mm(out.flatten(1), each.w_hh, out=dh[: len(d)])


def _rnn_back(each: _Direction, after: Tensor, into: Tensor, of_state: Tensor, dh: Tensor, *, relu: bool) -> None:
    """Fill the gradients of the pre-activations; ``after`` is the state after each step."""
    slope = (after > 0).to(after.dtype) if relu else 1 - after * after
    for d, out, a in reversed(each.rows.steps(into, of_state[:, :, 0], slope)):
        d += dh[: len(d)]
        torch.mul(d, a, out=out)
        torch.mm(out, each.w_hh, out=dh[: len(d)])


def _add_at_end(into: Tensor, end: Tensor, rows: _Rows) -> None:
    """Add the final state's gradient where each row's last output is; a row of length 0 has none."""
    if rows.lengths is None:
        if len(into):
            into[-1] += end
        return
    real = rows.lengths > 0
    into[(rows.lengths - 1)[real], torch.arange(into.shape[1])[real]] += end[real]


def _flat(gates: Tensor) -> Tensor:
    return gates.flatten(2).flatten(0, 1)
