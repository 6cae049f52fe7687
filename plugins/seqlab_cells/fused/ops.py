"""The fused scan as an operator of torch: an implementation for each device, shapes for the compiler, a derivative."""

# ruff: noqa: ARG001  # what implements an operator takes all its arguments

import math
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqlab import State
from seqlab.recurrence import reverse_within
from seqlab_cells.fused import native
from seqlab_cells.fused.replicas import scan_replicas
from seqlab_cells.gpu import launch, limits
from seqlab_cells.weights import EPILOGUES, Epilogue, Layer, Results, is_single_vmap

_PLAIN = (Tensor, torch.nn.Parameter)
_OPS: Any = torch.library.Library("seqlab_cells", "DEF")  # type: ignore[no-untyped-call]  # torch's own
_OPS.define(
    "fused_scan(Tensor x, Tensor? lengths, Tensor[] states, Tensor[] weights, str epilogue, str save)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
_OPS.define(
    "fused_scan_backward(Tensor? dy, Tensor? dh, Tensor? dc, Tensor x, Tensor? lengths, Tensor[] states,"
    " Tensor[] weights, Tensor y, Tensor kept, str epilogue, str save, bool of_x, bool of_weights)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def fused_scan(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], epilogue: str, save: str
) -> Results:
    """Scan one layer.

    Args:
        x: ``[time, batch, input]``; this and the others are those of :class:`.weights.Layer`.
        lengths: valid steps of each row.
        states: the initial states.
        weights: the weights.
        epilogue: a name in :data:`.weights.EPILOGUES`.
        save: what is kept for the gradient.

    Returns:
        Outputs, final h and c (float32 on a GPU), and what is kept, of which the shape alone is specified.
    """
    result: Results
    if _is_plain((x, *states, *weights)):
        result = _Scan.apply(False, x, lengths, epilogue, save, len(states), *states, *weights)  # type: ignore[no-untyped-call]  # torch's
    elif is_single_vmap() and any(map(torch._C._functorch.is_batchedtensor, (x, *states, *weights))):
        result = _BatchedScan.apply(x, lengths, epilogue, save, len(states), *states, *weights)  # type: ignore[no-untyped-call]  # torch's
    else:
        result = torch.ops.seqlab_cells.fused_scan(x, lengths, states, weights, epilogue, save)
    return result


def fused_outputs(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], epilogue: str, save: str
) -> Tensor:
    """Return the outputs of :func:`fused_scan` alone, for which autograd has less to do."""
    if not _is_plain((x, *states, *weights)):
        return fused_scan(x, lengths, states, weights, epilogue, save)[0]
    outputs: Tensor = _Scan.apply(True, x, lengths, epilogue, save, len(states), *states, *weights)  # type: ignore[no-untyped-call]  # torch's
    return outputs


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    """Return whether the dispatcher can be skipped: no compiler, mode, transform or tensor subclass needs the operator.

    Dispatch takes some 0.4 ms a step, a sixth of the time of a small layer.
    """
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return not torch._C._are_functorch_transforms_active() and all(type(each) in _PLAIN for each in tensors)


def _implementation(layer: Layer) -> Any:
    return launch if limits.uses_triton(layer.x) else native


def _forward(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], epilogue: str, save: str
) -> Results:
    layer = Layer(x, lengths, states, weights, EPILOGUES[epilogue], save)
    result: Results = _implementation(layer).forward(layer)
    return result


def _backward(dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, *rest: Any, **room: Tensor) -> Results:
    x, lengths, states, weights, y, kept, epilogue, save, *wanted = rest
    layer = Layer(x, lengths, states, weights, EPILOGUES[epilogue], save)
    result: Results = _implementation(layer).backward(layer, (dy, dh, dc), y, kept, wanted, **room)
    return result


def _state_shapes(layer: Layer) -> tuple[Tensor, Tensor]:
    dtype = torch.float32 if limits.uses_triton(layer.x) else layer.x.dtype
    counts = layer.directions, layer.c_directions
    h, c = (layer.x.new_empty(count, layer.x.shape[1], layer.hidden, dtype=dtype) for count in counts)
    return h, c


def _forward_shapes(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], epilogue: str, save: str
) -> Results:
    layer = Layer(x, lengths, states, weights, EPILOGUES[epilogue], save)
    steps = layer.directions * x.shape[0] * x.shape[1]
    kept = launch.kept_size(layer, steps) if limits.uses_triton(x) else steps * native.kept_per_step(layer)
    return x.new_empty(*x.shape[:2], layer.directions * layer.hidden), *_state_shapes(layer), x.new_empty(kept)


def _backward_shapes(dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, *rest: Any) -> Results:
    x, lengths, states, weights, _, _, epilogue, save, of_x, of_weights = rest
    layer = Layer(x, lengths, states, weights, EPILOGUES[epilogue], save)
    per_direction = layer.epilogue.gates * layer.hidden * (x.shape[2] + layer.hidden + 2)
    dw = x.new_empty((layer.directions, per_direction) if of_weights else (0,))
    return x.new_empty(x.shape if of_x else (0,)), *_state_shapes(layer), dw


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, lengths, states, weights, ctx.epilogue, ctx.save = inputs
    y, _, _, kept = output
    ctx.counts = len(states), len(weights)
    ctx.save_for_backward(x, lengths, y, kept, *states, *weights)
    ctx.set_materialize_grads(False)


def _derivative(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
    of_x, _, of_states, of_weights, *_ = ctx.needs_input_grad
    wanted = of_x, _flags(of_states, ctx.counts[0]), _flags(of_weights, ctx.counts[1])
    dx, states, weights = _gradients(ctx, wanted, gradients, torch.ops.seqlab_cells.fused_scan_backward)
    return dx, None, states, weights, None, None


def _gradients(
    ctx: Any, wanted: tuple[bool, Sequence[bool], Sequence[bool]], gradients: Sequence[Tensor | None], backward: Any
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor | None]]:
    """Return the gradients of the input, of the state tensors, and of the weights."""
    x, lengths, y, kept, *rest = ctx.saved_tensors
    states, weights = rest[: ctx.counts[0]], rest[ctx.counts[0] :]
    of_x, of_states, of_weights = wanted
    room: dict[str, Tensor] = {}
    parts: list[Tensor | None] = [None] * len(weights)
    if backward is _backward and any(of_weights) and not limits.uses_triton(x):
        # Parted before the kernel runs: after it the caches hold nothing of torch's, and views take ten times as long.
        room["dw"] = torch.empty(sum(weight.numel() for weight in weights), dtype=x.dtype)
        parts = _parts(room["dw"], weights, of_weights)
    dx, dh0, dc0, dw = backward(
        *gradients[:3], x, lengths, states, weights, y, kept, ctx.epilogue, ctx.save, of_x, any(of_weights), **room
    )
    if any(of_weights) and not room:
        parts = _parts(dw, weights, of_weights)
    dstates: list[Tensor | None] = [None] * len(states)
    if any(of_states):
        per_direction = (dh0, dc0)[: EPILOGUES[ctx.epilogue].states]
        found = [each[d] for d in range(len(weights) // 4) for each in per_direction]
        dstates = [ds.to(s.dtype) if each else None for ds, s, each in zip(found, states, of_states, strict=True)]
    return dx if of_x else None, dstates, parts


def _parts(dw: Tensor, weights: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Return the gradient of each weight, of those that are wanted."""
    flat = dw.view(-1).split_with_sizes([weight.numel() for weight in weights])
    return [
        (part if weight.dim() == 1 else part.view(weight.shape)) if each else None
        for part, weight, each in zip(flat, weights, wanted, strict=True)
    ]


def _flags(wanted: Any, count: int) -> list[bool]:
    """Return which tensors of a list need a gradient, however this version of torch states it."""
    return list(wanted) if isinstance(wanted, list | tuple) else [bool(wanted)] * count


@final
class _Scan(torch.autograd.Function):
    """The scan and its derivative without torch's dispatcher."""

    @staticmethod
    def forward(
        ctx: Any, alone: bool, x: Tensor, lengths: Tensor | None, epilogue: str, save: str, count: int, *tensors: Tensor
    ) -> Results | Tensor:
        states, weights = tensors[:count], tensors[count:]
        result = _forward(x, lengths, states, weights, epilogue, save)
        _setup(ctx, (x, lengths, states, weights, epilogue, save), result)
        if alone:
            return result[0]
        ctx.mark_non_differentiable(result[3])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        of_x, of_rest, count = ctx.needs_input_grad[1], ctx.needs_input_grad[6:], ctx.counts[0]
        wanted = of_x, of_rest[:count], of_rest[count:]
        # With create_graph the operator is called, which raises an error when it is differentiated again.
        backward = torch.ops.seqlab_cells.fused_scan_backward if torch.is_grad_enabled() else _backward
        dx, states, weights = _gradients(ctx, wanted, (*gradients, None, None), backward)
        return None, dx, None, None, None, None, *states, *weights


@final
class _BatchedScan(torch.autograd.Function):
    """The batching rule of the scan for ``torch.func.vmap``: each index of the batched axis is a replica."""

    generate_vmap_rule = False

    @staticmethod
    def forward(*_: Any) -> Results:
        # A Function must have one; below vmap the plain scan is called in place of this class.
        raise RuntimeError("the batching rule of the fused scan was called outside of torch.func.vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, lengths: Tensor | None, epilogue: str, save: str, count: int, *rest: Tensor
    ) -> tuple[Results, tuple[int, ...]]:
        def leading(value: Tensor, axis: int | None) -> Tensor:
            if axis is None:
                return value.expand(info.batch_size, *value.shape)
            return value if axis == 0 else value.movedim(axis, 0)

        x = leading(x, in_dims[0])
        lengths = None if lengths is None else leading(lengths, in_dims[1])
        tensors = [leading(*each) for each in zip(rest, in_dims[5:], strict=True)]
        states, weights = tensors[:count], tensors[count:]
        return scan_replicas(x, lengths, states, weights, epilogue, save), (0, 0, 0, 0)


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    pass


def _no_second_derivative(ctx: Any, *_: Any) -> None:
    raise RuntimeError("kernel=fused has no second derivative; use kernel=loop")


for _device in ("CPU", "CUDA"):
    _OPS.impl("fused_scan", _forward, _device)
    _OPS.impl("fused_scan_backward", _backward, _device)
torch.library.register_fake("seqlab_cells::fused_scan", _forward_shapes, lib=_OPS)
torch.library.register_fake("seqlab_cells::fused_scan_backward", _backward_shapes, lib=_OPS)
torch.library.register_autograd("seqlab_cells::fused_scan", _derivative, setup_context=_setup, lib=_OPS)
torch.library.register_autograd(
    "seqlab_cells::fused_scan_backward", _no_second_derivative, setup_context=_keep_nothing, lib=_OPS
)


def checkpointed_scan(layer: Layer, every: int) -> tuple[Tensor, list[State]]:
    """Scan a layer segment by segment; keep the states between segments, and run the steps again for the gradient.

    Args:
        layer: its arguments; ``save`` is ignored.
        every: steps of a segment; 0 for the square root of all steps.
    """
    outputs, final_states = [], []
    for d in range(layer.directions):
        x = layer.x if d == 0 else reverse_within(layer.x, layer.lengths)
        y, end = _segments(layer._replace(x=x, states=layer.state(d), weights=layer.weight(d)), every)
        outputs.append(y if d == 0 else reverse_within(y, layer.lengths))
        final_states.append(end)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)), final_states


def _segments(layer: Layer, every: int) -> tuple[Tensor, State]:
    x, state, epilogue = layer.x, tuple(layer.states), layer.epilogue
    size = every or max(1, math.isqrt(len(x)))
    outputs = []
    for begin in range(0, max(1, len(x)), size):
        segment = x[begin : begin + size]
        left = None if layer.lengths is None else (layer.lengths - begin).clamp(0, len(segment))
        # The weights are arguments, so that autograd raises an error where one is changed in place before backward.
        given = (epilogue, segment, left, *state, *layer.weights)
        y, *after = checkpoint(_segment, *given, use_reentrant=False, preserve_rng_state=False)
        outputs.append(y)
        state = tuple(after)
    return torch.cat(outputs), state


def _segment(epilogue: Epilogue, x: Tensor, left: Tensor | None, *rest: Tensor) -> tuple[Tensor, ...]:
    save = "gates" if torch.is_grad_enabled() else "none"
    y, h, c, _ = fused_scan(x, left, rest[: epilogue.states], rest[epilogue.states :], epilogue.name, save)
    return (y, h[0], c[0]) if epilogue.states == 2 else (y, h[0])
