"""The kernels as two functions of tensors, as those of :mod:`.fused.library`; and the products around them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqlab_cells.fused.library import Tail
from seqlab_cells.gpu.limits import padded, precision, tile
from seqlab_cells.gpu.plan import Plan, plan

ALIGNED = 16
"""Numbers after which memory is aligned for wide reads: kernels are compiled anew for what is not."""


class _Layer(NamedTuple):
    """What both walks read."""

    plan: Plan
    time: int
    batch: int
    hidden: int
    directions: int
    x: Tensor  # [kept steps, input]
    w_ih: Tensor  # [directions, gates * hidden, input]
    w_hh: Tensor  # [directions, gates * hidden, hidden]
    h0: Tensor  # [directions, batch, hidden], float32
    c0: Tensor

    def launch(self, kernel: Any, tail: Tail, arguments: Sequence[Any], *, back: bool, **options: Any) -> None:
        """Run a kernel over all tiles of rows; it may be that there are none."""
        if not self.batch:
            return
        how = precision(self.x.dtype)
        rows, warps = tile(tail, self.hidden, self.x.dtype, how, back=back)
        layout = self.plan
        ragged = layout.lengths is not None
        index = (layout.lengths, layout.order, layout.base) if ragged else (self.h0,) * 3
        kernel[(-(-self.batch // rows), self.directions)](
            *arguments, *index, self.batch, self.time, layout.stride, self.directions,
            TAIL=tail.name, GATES=tail.gates, H=self.hidden,
            BH=padded(self.hidden), BM=rows, RAGGED=ragged,
            PRECISION=how, num_warps=warps, **options,
        )  # fmt: skip


def _layer(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], tail: Tail
) -> _Layer:
    time, batch, _ = x.shape
    directions, hidden = len(weights) // 4, weights[1].shape[1]
    layout = plan(time, batch, lengths, x.device)
    starts = [torch.stack(list(states[leaf :: tail.leaves])).float() for leaf in range(tail.leaves)]
    w_ih, w_hh = torch.stack(list(weights[0::4])), torch.stack(list(weights[1::4]))
    return _Layer(layout, time, batch, hidden, directions, layout.kept(x), w_ih, w_hh, starts[0], starts[-1])


def _projected(layer: _Layer, weights: Sequence[Tensor], tail: Tail) -> tuple[Tensor, Tensor]:
    """Multiply all inputs with all ``W_ih`` at once; the biases are added, but one of a GRU, which is given apart."""
    b_ih, b_hh = (torch.stack(list(weights[k::4])).float() for k in (2, 3))
    apart = b_hh.view(layer.directions, tail.gates, -1)[:, -1].contiguous()
    if tail.name == "Gru":
        b_hh = b_hh.clone()
        b_hh[:, 2 * layer.hidden :] = 0
    bias = (b_ih + b_hh).to(layer.x.dtype).flatten()
    return torch.addmm(bias, layer.x, layer.w_ih.flatten(0, 1).t()), apart


def shapes(kept: Tensor, layer: _Layer, tail: Tail, save: str) -> tuple[Tensor, Tensor]:
    """Cut what is kept into c, float32, and the gates."""
    per_c = layer.directions * layer.hidden * (4 // kept.element_size()) * (tail.leaves - 1)
    per_gates = 4 * layer.directions * layer.hidden if save == "gates" and tail.kept else 0
    total = layer.plan.total if save != "none" else 0
    c = kept[: total * per_c].view(torch.float32)
    begin = -(-total * per_c // ALIGNED) * ALIGNED
    return c, kept[begin : begin + total * per_gates]


def room(tail: Tail, hidden: int, save: str, dtype: torch.dtype, steps: int) -> int:
    """Count the numbers of ``dtype`` that are kept of so many steps, those of each direction counted."""
    return steps * record(tail, hidden, save, dtype) + (0 if save == "none" else ALIGNED)


def record(tail: Tail, hidden: int, save: str, dtype: torch.dtype) -> int:
    """Count the numbers of ``dtype`` that are kept of a row's step in one direction."""
    if save == "none":
        return 0
    gates = 4 if save == "gates" and tail.kept else 0
    return hidden * (gates + (tail.leaves - 1) * 4 // dtype.itemsize)


def forward(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], tail: Tail, save: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scan one layer; what :func:`.ops.fused_scan` gives, with final states in float32."""
    from seqlab_cells.gpu.forward import forward as kernel

    layer = _layer(x, lengths, states, weights, tail)
    projected, apart = _projected(layer, weights, tail)
    y = (x.new_empty if lengths is None else x.new_zeros)(layer.time, layer.batch, layer.directions * layer.hidden)
    h_end = torch.empty_like(layer.h0)
    c_end = torch.empty_like(h_end) if tail.leaves == 2 else h_end.new_empty(0, *h_end.shape[1:])
    kept = x.new_empty(room(tail, layer.hidden, save, x.dtype, layer.directions * layer.time * layer.batch))
    kept_c, kept_gates = shapes(kept, layer, tail, save)
    layer.launch(
        kernel,
        tail,
        (projected, layer.w_hh, apart, layer.h0, layer.c0, y, h_end, c_end, kept_c, kept_gates),
        back=False,
        KEEP_C=bool(kept_c.numel()),
        KEEP_GATES=bool(kept_gates.numel()),
    )
    return y, h_end, c_end, kept


def backward(
    gradients: Sequence[Tensor | None],
    x: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    y: Tensor,
    kept: Tensor,
    tail: Tail,
    save: str,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differentiate; what :func:`.ops.fused_scan_backward` gives, with the states' gradients in float32."""
    layer = _layer(x, lengths, states, weights, tail)
    kept_c, gates = shapes(kept, layer, tail, save)
    parts = y.view(layer.time, layer.batch, layer.directions, layer.hidden).unbind(2)
    rebuild = save == "recompute" and tail.kept > 0
    befores: list[Tensor] = []
    if wanted[1] or rebuild:
        befores = [layer.plan.before(part, layer.h0[d], d == 1) for d, part in enumerate(parts)]
    if rebuild:
        gates = _rebuilt(layer, befores, weights, tail)
    planes, dh0, dc0 = _walk_back(layer, gradients, y, kept_c, gates, tail)
    # Of a GRU's four planes the state's product takes the first three, the input's the last three.
    first = 1 if tail.name == "Gru" else 0
    dx = _of_input(layer, planes, first) if wanted[0] else x.new_empty(0)
    dw = _of_weights(layer, planes, befores, first) if wanted[1] else x.new_empty(0)
    return dx, dh0, dc0, dw


def _rebuilt(layer: _Layer, befores: Sequence[Tensor], weights: Sequence[Tensor], tail: Tail) -> Tensor:
    """Build the gates again: the states before each step are known, so one product serves all steps."""
    projected, apart = _projected(layer, weights, tail)
    found = []
    for d, before in enumerate(befores):
        mine = projected.view(-1, layer.directions, tail.gates, layer.hidden)[:, d].float()
        product = (before @ layer.w_hh[d].t()).view_as(mine).float()
        if tail.name == "Gru":
            r, z = (mine[:, :2] + product[:, :2]).sigmoid().unbind(1)
            n_h = product[:, 2] + apart[d]
            found.append(torch.stack([r, z, torch.tanh(mine[:, 2] + r * n_h), n_h], dim=1))
        else:
            i, f, g, o = (mine + product).unbind(1)
            found.append(torch.stack([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], dim=1))
    return torch.stack(found, dim=1).to(layer.x.dtype)


def _walk_back(
    layer: _Layer, gradients: Sequence[Tensor | None], y: Tensor, kept_c: Tensor, gates: Tensor, tail: Tail
) -> tuple[Tensor, Tensor, Tensor]:
    from seqlab_cells.gpu.backward import backward as kernel

    planes = y.new_empty(layer.plan.total, layer.directions, 4 if tail.kept else 1, layer.hidden)
    dh0 = torch.empty_like(layer.h0)
    dc0 = torch.empty_like(dh0) if tail.leaves == 2 else dh0.new_empty(0, *dh0.shape[1:])
    dy, dh, dc = (None if each is None else each.contiguous() for each in gradients)
    dc = dc if tail.leaves == 2 else None
    earlier, start = (kept_c, layer.c0) if tail.leaves == 2 else (y, layer.h0)
    none = torch.zeros_like(layer.h0) if dh is None or (dc is None and tail.leaves == 2) else layer.h0
    given = [layer.h0 if dy is None else dy, *(none if each is None else each for each in (dh, dc))]
    layer.launch(
        kernel,
        tail,
        (*given, gates, earlier, start, layer.w_hh, planes, dh0, dc0),
        back=True,
        HAS_DY=dy is not None,
    )
    return planes, dh0, dc0


def _of_input(layer: _Layer, planes: Tensor, first: int) -> Tensor:
    """Multiply the gates' gradients with ``W_ih``, the directions' added up."""
    into = None
    for d in range(layer.directions):
        mine = planes[:, d, first:].flatten(1)
        into = mine @ layer.w_ih[d] if into is None else torch.addmm(into, mine, layer.w_ih[d])
    assert into is not None
    return layer.plan.spread(into, layer.time, layer.batch)


def _of_weights(layer: _Layer, planes: Tensor, befores: Sequence[Tensor], first: int) -> Tensor:
    """Make the gradients of ``W_ih, W_hh, b_ih, b_hh`` of each direction: products over all steps, side by side."""
    found = []
    for d, before in enumerate(befores):
        of_x = planes[:, d, first:].flatten(1)
        of_h = planes[:, d, : planes.shape[2] - first].flatten(1)
        parts = [of_x.t() @ layer.x, of_h.t() @ before]
        parts += [each.sum(0, dtype=torch.float32).to(of_x.dtype) for each in (of_x, of_h)]
        if first:  # of the state's planes the candidate's comes first
            parts[1::2] = [each.roll(-layer.hidden, 0) for each in parts[1::2]]
        found.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(found)
