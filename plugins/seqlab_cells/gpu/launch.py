"""The Triton kernels of the fused scan as functions of tensors, and the products around them.

Everything has a first axis of replicas here, layers of one shape with weights and rows of their own; a plain layer is
one replica.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqlab_cells.gpu.limits import Plan, padded, plan, precision, tile
from seqlab_cells.weights import Epilogue, Layer, Results

ALIGNED = 16
"""Numbers after which memory is aligned for wide reads: kernels are recompiled for what is not."""
MOST = 65535
"""Replicas of one launch: as far as the third axis of CUDA's grid reaches."""


class _Inputs(NamedTuple):
    """What both kernels read."""

    layer: Layer
    plan: Plan
    x: Tensor  # [replicas, kept steps, input]
    w_ih: Tensor  # [replicas, directions, gates * hidden, input]
    w_hh: Tensor  # [replicas, directions, gates * hidden, hidden]
    h0: Tensor  # [replicas, directions, batch, hidden], float32
    c0: Tensor

    def launch(self, kernel: Any, arguments: Sequence[Any], *, back: bool, **options: Any) -> None:
        """Run a kernel over all tiles of rows, of which there may be none."""
        (replicas, time, batch, _), layout, layer = self.layer.x.shape, self.plan, self.layer
        if not batch:
            return
        how = precision(self.x.dtype)
        rows, warps = tile(layer.epilogue, layer.hidden, self.x.dtype, how, back=back)
        ragged = layout.lengths is not None
        index = (layout.lengths, layout.order, layout.base) if ragged else (self.h0,) * 3
        kernel[(-(-batch // rows), layer.directions, replicas)](
            *arguments, *index, batch, time, layer.directions,
            EPILOGUE=layer.epilogue.name, GATES=layer.epilogue.gates, H=layer.hidden,
            BH=padded(layer.hidden), BM=rows, RAGGED=ragged,
            PRECISION=how, num_warps=warps, **options,
        )  # fmt: skip


def _inputs(layer: Layer) -> _Inputs:
    replicas, time, batch, _ = layer.x.shape
    if replicas > MOST:
        raise ValueError(f"kernel=fused runs {MOST} replicas at most on a GPU, got {replicas}; give vmap a chunk_size")
    layout = plan(replicas, time, batch, layer.lengths, layer.x.device)
    count = layer.epilogue.states
    starts = [torch.stack(list(layer.states[each::count]), 1).float() for each in range(count)]
    w_ih, w_hh = (torch.stack(list(layer.weights[k::4]), 1) for k in (0, 1))
    return _Inputs(layer, layout, layout.kept(layer.x), w_ih, w_hh, starts[0], starts[-1])


def _product(a: Tensor, b: Tensor, added: Tensor | None = None) -> Tensor:
    """Multiply replica by replica in one batched product, and add what is given: a matrix or a bias of each.

    One replica's matrices are multiplied as such, for which torch has the faster routines.
    """
    if len(a) == 1:
        return (a[0] @ b[0] if added is None else torch.addmm(added[0], a[0], b[0])).unsqueeze(0)
    if added is None:
        return torch.bmm(a, b)
    return torch.baddbmm(added if added.dim() == 3 else added.unsqueeze(1), a, b)


def _projected(inputs: _Inputs) -> tuple[Tensor, Tensor]:
    """Multiply all inputs with all ``W_ih`` at once and add the biases, but one of a GRU, which is returned apart."""
    layer = inputs.layer
    b_ih, b_hh = (torch.stack(list(layer.weights[k::4]), 1).float() for k in (2, 3))
    apart = b_hh.view(*b_hh.shape[:2], layer.epilogue.gates, layer.hidden)[:, :, -1].contiguous()
    if layer.epilogue.name == "Gru":
        b_hh = b_hh.clone()
        b_hh[..., 2 * layer.hidden :] = 0
    bias = (b_ih + b_hh).to(inputs.x.dtype).flatten(1)
    return _product(inputs.x, inputs.w_ih.flatten(1, 2).mT, bias), apart


def _split(kept: Tensor, inputs: _Inputs) -> tuple[Tensor, Tensor]:
    """Split what is kept of all replicas into c, float32, and the gates, each without an axis."""
    layer, epilogue, kept = inputs.layer, inputs.layer.epilogue, kept.flatten()
    per_c = layer.directions * layer.hidden * (4 // kept.element_size()) * (epilogue.states - 1)
    per_gates = 4 * layer.directions * layer.hidden if layer.save == "gates" and epilogue.kept else 0
    total = len(layer.x) * inputs.plan.total if layer.save != "none" else 0
    c = kept[: total * per_c].view(torch.float32)
    begin = -(-total * per_c // ALIGNED) * ALIGNED
    return c, kept[begin : begin + total * per_gates]


def kept_size(layer: Layer, steps: int) -> int:
    """Return how many numbers are kept of so many steps, those of each direction counted."""
    per_step = kept_per_step(layer.epilogue, layer.hidden, layer.save, layer.x.dtype)
    return steps * per_step + (0 if layer.save == "none" else ALIGNED)


def kept_per_step(epilogue: Epilogue, hidden: int, save: str, dtype: torch.dtype) -> int:
    """Return how many numbers of ``dtype`` are kept of one row's step in one direction."""
    if save == "none":
        return 0
    gates = 4 if save == "gates" and epilogue.kept else 0
    return hidden * (gates + (epilogue.states - 1) * 4 // dtype.itemsize)


def _empty_states(inputs: _Inputs) -> tuple[Tensor, Tensor]:
    h = torch.empty_like(inputs.h0)
    return h, torch.empty_like(h) if inputs.layer.epilogue.states == 2 else h.new_empty(len(h), 0, *h.shape[2:])


def forward(layer: Layer) -> Results:
    """Scan one layer, as :func:`.ops.fused_scan` does, with final states in float32."""
    return _without_axis(forward_replicas(_with_axis(layer)))


def backward(
    layer: Layer, gradients: Sequence[Tensor | None], y: Tensor, kept: Tensor, wanted: Sequence[bool]
) -> Results:
    """Differentiate the scan, as :func:`.native.backward` does, with the states' gradients in float32."""
    dy, dh, dc = (None if each is None else each.unsqueeze(0) for each in gradients)
    return _without_axis(backward_replicas(_with_axis(layer), (dy, dh, dc), y.unsqueeze(0), kept, wanted))


def _with_axis(layer: Layer) -> Layer:
    """Return a layer as one replica."""
    lengths = None if layer.lengths is None else layer.lengths.unsqueeze(0)
    states, weights = ([each.unsqueeze(0) for each in some] for some in (layer.states, layer.weights))
    return layer._replace(x=layer.x.unsqueeze(0), lengths=lengths, states=states, weights=weights)


def _without_axis(results: Results) -> Results:
    first, second, third, fourth = results
    return first[0], second[0], third[0], fourth[0]


def forward_replicas(layer: Layer) -> Results:
    """Scan one layer of each replica in one launch: :func:`forward` of tensors with a first axis of replicas."""
    from seqlab_cells.gpu.scan import forward as kernel

    inputs, x = _inputs(layer), layer.x
    projected, apart = _projected(inputs)
    replicas, time, batch, _ = x.shape
    make = x.new_empty if layer.lengths is None else x.new_zeros
    y = make(replicas, time, batch, layer.directions * layer.hidden)
    h_end, c_end = _empty_states(inputs)
    kept = x.new_empty(replicas, kept_size(layer, layer.directions * time * batch))
    kept_c, kept_gates = _split(kept, inputs)
    inputs.launch(
        kernel,
        (projected, inputs.w_hh, apart, inputs.h0, inputs.c0, y, h_end, c_end, kept_c, kept_gates),
        back=False,
        KEEP_C=bool(kept_c.numel()),
        KEEP_GATES=bool(kept_gates.numel()),
    )
    return y, h_end, c_end, kept


def backward_replicas(
    layer: Layer, gradients: Sequence[Tensor | None], y: Tensor, kept: Tensor, wanted: Sequence[bool]
) -> Results:
    """Differentiate :func:`forward_replicas`, with a first axis of replicas too; sums are over those of a replica."""
    inputs = _inputs(layer)
    kept_c, gates = _split(kept, inputs)
    parts = y.view(*y.shape[:3], layer.directions, layer.hidden).unbind(3)
    recompute = layer.save == "recompute" and layer.epilogue.kept > 0
    befores: list[Tensor] = []
    if wanted[1] or recompute:
        befores = [inputs.plan.before(part, inputs.h0[:, d], d == 1) for d, part in enumerate(parts)]
    if recompute:
        gates = _recomputed(inputs, befores)
    planes, dh0, dc0 = _gate_gradients(inputs, gradients, y, kept_c, gates)
    # Of a GRU's four planes the state's product takes the first three, the input's the last three.
    first = 1 if layer.epilogue.name == "Gru" else 0
    nothing = layer.x.new_empty(len(layer.x), 0)
    dx = _of_input(inputs, planes, first) if wanted[0] else nothing
    dw = _of_weights(inputs, planes, befores, first) if wanted[1] else nothing
    return dx, dh0, dc0, dw


def _recomputed(inputs: _Inputs, befores: Sequence[Tensor]) -> Tensor:
    """Recompute the gates: the states before each step are known, so one product serves all steps."""
    layer = inputs.layer
    projected, apart = _projected(inputs)
    by_gate = projected.view(*projected.shape[:2], layer.directions, layer.epilogue.gates, layer.hidden)
    found = []
    for d, before in enumerate(befores):
        mine = by_gate[:, :, d].float()
        product = _product(before, inputs.w_hh[:, d].mT).view_as(mine).float()
        if layer.epilogue.name == "Gru":
            r, z = (mine[:, :, :2] + product[:, :, :2]).sigmoid().unbind(2)
            n_h = product[:, :, 2] + apart[:, d].unsqueeze(1)
            found.append(torch.stack([r, z, torch.tanh(mine[:, :, 2] + r * n_h), n_h], dim=2))
        else:
            i, f, g, o = (mine + product).unbind(2)
            found.append(torch.stack([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], dim=2))
    return torch.stack(found, dim=2).to(inputs.x.dtype)


def _gate_gradients(
    inputs: _Inputs, gradients: Sequence[Tensor | None], y: Tensor, kept_c: Tensor, gates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gates' gradients ``[replicas, kept steps, directions, planes, hidden]``, and the initial states'."""
    from seqlab_cells.gpu.scan import backward as kernel

    layer, has_c = inputs.layer, inputs.layer.epilogue.states == 2
    make = y.new_empty if inputs.plan.slots is None else y.new_zeros  # memory that is left over is multiplied too
    planes = make(len(y), inputs.plan.total, layer.directions, 4 if layer.epilogue.kept else 1, layer.hidden)
    dh0, dc0 = _empty_states(inputs)
    dy, dh, dc = (None if each is None else each.contiguous() for each in gradients)
    dc = dc if has_c else None
    earlier, start = (kept_c, inputs.c0) if has_c else (y, inputs.h0)
    none = torch.zeros_like(inputs.h0) if dh is None or (dc is None and has_c) else inputs.h0
    given = [inputs.h0 if dy is None else dy, *(none if each is None else each for each in (dh, dc))]
    arguments = (*given, gates, earlier, start, inputs.w_hh, planes, dh0, dc0)
    inputs.launch(kernel, arguments, back=True, HAS_DY=dy is not None)
    return planes, dh0, dc0


def _of_input(inputs: _Inputs, planes: Tensor, first: int) -> Tensor:
    """Return the gradient of the input, summed over the directions."""
    into = None
    for d in range(inputs.layer.directions):
        into = _product(planes[:, :, d, first:].flatten(2), inputs.w_ih[:, d], into)
    assert into is not None
    return inputs.plan.spread(into, *inputs.layer.x.shape[1:3])


def _of_weights(inputs: _Inputs, planes: Tensor, befores: Sequence[Tensor], first: int) -> Tensor:
    """Return the gradients of ``W_ih, W_hh, b_ih, b_hh`` of each direction, flat and side by side."""
    found = []
    for d, before in enumerate(befores):
        of_x = planes[:, :, d, first:].flatten(2)
        of_h = planes[:, :, d, : planes.shape[3] - first].flatten(2)
        parts = [_product(of_x.mT, inputs.x), _product(of_h.mT, before)]
        parts += [each.sum(1, dtype=torch.float32).to(of_x.dtype) for each in (of_x, of_h)]
        if first:  # of the state's planes the candidate's comes first
            parts[1::2] = [each.roll(-inputs.layer.hidden, 1) for each in parts[1::2]]
        found.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    return torch.stack(found, dim=1)
