"""The fused scan of replicas: layers of one shape, each with its own weights and rows, in one call."""

import ctypes
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from seqlab_cells.fused import native
from seqlab_cells.fused.native import POOL, Problem
from seqlab_cells.gpu import launch, limits
from seqlab_cells.weights import EPILOGUES, Layer, Results

_BY_DIRECTION = ("h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh")
_RESULTS = ("y", "h_end", "c_end", "kept", "dy", "dh_end", "dc_end", "dx", "dh0", "dc0", "dw")


class Distances(ctypes.Structure):
    """The struct of the same name in ``scan.cpp``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("count", "workspace", "x", "lengths")),
        *((name, ctypes.c_int64 * 2) for name in _BY_DIRECTION),
        *((name, ctypes.c_int64) for name in _RESULTS),
    )


def scan_replicas(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], epilogue: str, save: str
) -> Results:
    """Scan one layer of each replica: the arguments of :func:`.ops.fused_scan`, each with a first axis of replicas."""
    wanted = torch.is_grad_enabled() and any(each.requires_grad for each in (x, *states, *weights))
    result: Results = _ScanReplicas.apply(  # type: ignore[no-untyped-call]  # torch's
        x, lengths, epilogue, save if wanted else "none", len(states), *states, *weights
    )
    return result


@final
class _ScanReplicas(torch.autograd.Function):
    """The scan and its derivative."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lengths: Tensor | None, epilogue: str, save: str, count: int, *tensors: Tensor
    ) -> Results:
        layer = _normalised(Layer(x, lengths, tensors[:count], tensors[count:], EPILOGUES[epilogue], save))
        result = (launch.forward_replicas if limits.uses_triton(x) else _forward)(layer)
        ctx.count, ctx.epilogue, ctx.save = count, epilogue, save
        ctx.save_for_backward(layer.x, layer.lengths, result[0], result[3], *layer.states, *layer.weights)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(result[3])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        x, lengths, y, kept, *rest = ctx.saved_tensors
        if torch.is_grad_enabled():
            raise RuntimeError("kernel=fused has no second derivative; use kernel=loop")
        states, weights = rest[: ctx.count], rest[ctx.count :]
        layer = Layer(x, lengths, states, weights, EPILOGUES[ctx.epilogue], ctx.save)
        of_x, of_weights = ctx.needs_input_grad[0], any(ctx.needs_input_grad[5 + ctx.count :])
        backward = launch.backward_replicas if limits.uses_triton(x) else _backward
        dx, dh0, dc0, dw = backward(layer, gradients[:3], y, kept, (of_x, of_weights))
        per_direction = (dh0, dc0)[: layer.epilogue.states]
        found = [each[:, d] for d in range(len(weights) // 4) for each in per_direction]
        parts: list[Tensor | None] = [ds.to(s.dtype) for ds, s in zip(found, states, strict=True)]
        if of_weights:
            sizes = [weight[0].numel() for weight in weights[:4]]
            flat = [part for each in dw.unbind(1) for part in torch.split(each, sizes, dim=1)]
            parts += [part.view(weight.shape) for part, weight in zip(flat, weights, strict=True)]
        else:
            parts += [None] * len(weights)
        needed = ctx.needs_input_grad[5:]
        return (
            dx if of_x else None,
            None,
            None,
            None,
            None,
            *(part if each else None for part, each in zip(parts, needed, strict=True)),
        )


def _normalised(layer: Layer) -> Layer:
    """Make what follows the axis of replicas contiguous; of x, its last axis."""
    x = layer.x if layer.x.stride(-1) == 1 or layer.x.shape[-1] == 1 else layer.x.contiguous()
    lengths = None if layer.lengths is None else _contiguous(layer.lengths.to(torch.int64))
    return layer._replace(
        x=x, lengths=lengths, states=[*map(_contiguous, layer.states)], weights=[*map(_contiguous, layer.weights)]
    )


def _contiguous(stacked: Tensor) -> Tensor:
    return stacked if stacked[0].is_contiguous() else stacked.contiguous()


def _first(layer: Layer) -> Layer:
    """Return the arguments of the first replica."""
    lengths = None if layer.lengths is None else layer.lengths[0]
    states, weights = [each[0] for each in layer.states], [each[0] for each in layer.weights]
    return layer._replace(x=layer.x[0], lengths=lengths, states=states, weights=weights)


def _problem(layer: Layer, first: Layer) -> tuple[Problem, list[Tensor], Distances]:
    """Fill in what forward and backward share."""
    problem, held = native.problem_of(first)
    by = Distances(count=len(layer.x), x=_distance(layer.x))
    by.lengths = 0 if layer.lengths is None else _distance(layer.lengths)
    for d in range(first.directions):
        for tensor, name in zip(layer.state(d), ("h0", "c0"), strict=False):
            getattr(by, name)[d] = _distance(tensor)
        for tensor, name in zip(layer.weight(d), ("w_ih", "w_hh", "b_ih", "b_hh"), strict=True):
            getattr(by, name)[d] = _distance(tensor)
    return problem, held, by


def _distance(stacked: Tensor) -> int:
    return stacked.stride(0) * stacked.itemsize


def _place(problem: Problem, by: Distances, **arrays: Tensor | None) -> None:
    for name, tensor in arrays.items():
        if tensor is not None and tensor.numel():
            setattr(problem, name, tensor.data_ptr())
            setattr(by, name, _distance(tensor))


def _call(name: str, problem: Problem, by: Distances, layer: Layer) -> None:
    compiled = native.library(layer.epilogue.name, layer.x.dtype)
    given = ctypes.byref(problem), ctypes.byref(by)
    by.workspace = getattr(compiled, f"{name}_replicas_workspace")(*given)
    workspace = POOL.take(by.workspace * problem.threads)
    try:
        problem.workspace = workspace.address
        getattr(compiled, f"{name}_replicas")(*given)
    finally:
        POOL.give_back(workspace)


def _shapes(layer: Layer, first: Layer) -> tuple[int, int, int, int, int]:
    return len(layer.x), *first.x.shape[:2], first.directions, first.hidden


def _forward(layer: Layer) -> Results:
    first = _first(layer)
    replicas, time, batch, directions, hidden = _shapes(layer, first)
    x = layer.x
    y = POOL.empty((replicas, time, batch, directions * hidden), x.dtype)
    counts = directions, first.c_directions
    h_end, c_end = (x.new_empty(replicas, count, batch, hidden) for count in counts)
    kept = POOL.empty((replicas, directions * time * batch * native.kept_per_step(first)), x.dtype)
    problem, held, by = _problem(layer, first)
    _place(problem, by, y=y, h_end=h_end, c_end=c_end, kept=kept if layer.save != "none" else None)
    if layer.save != "none" and not kept.numel():
        problem.kept = kept.data_ptr()
    _call("forward", problem, by, layer)
    del held
    return y, h_end, c_end, kept


def _backward(
    layer: Layer, gradients: Sequence[Tensor | None], y: Tensor, kept: Tensor, wanted: Sequence[bool]
) -> Results:
    first = _first(layer)
    replicas, time, batch, directions, hidden = _shapes(layer, first)
    x, size = layer.x, layer.x.shape[-1]
    dx = POOL.empty((replicas, directions, time, batch, size) if wanted[0] else (0,), x.dtype)
    dh0, dc0 = (x.new_empty(replicas, count, batch, hidden) for count in (directions, first.c_directions))
    per_direction = layer.epilogue.gates * hidden * (size + hidden + 2)
    dw = x.new_empty((replicas, directions, per_direction) if wanted[1] else (0,))
    problem, held, by = _problem(layer, first)
    dy, dh, dc = (None if each is None else _contiguous(each) for each in gradients)
    _place(problem, by, y=y, kept=kept, dy=dy, dh_end=dh, dc_end=dc)
    problem.kept = kept.data_ptr()
    _place(problem, by, dx=dx, dh0=dh0, dc0=dc0, dw=dw)
    _call("backward", problem, by, layer)
    del held
    if wanted[0]:
        dx = dx[:, 0] if directions == 1 else dx.sum(1)
    return dx, dh0, dc0, dw
