"""The fused scan as an operator of torch: an implementation for each device, shapes for the compiler, a derivative."""

# ruff: noqa: ARG001  # what implements an operator takes all its arguments

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from seqlab_cells.fused import eager, library
from seqlab_cells.fused.build import NoCompilerError
from seqlab_cells.fused.build import library as compiled
from seqlab_cells.fused.library import TAILS, Tail
from seqlab_cells.gpu import launch, limits

_PLAIN = (Tensor, torch.nn.Parameter)
_OPS: Any = torch.library.Library("seqlab_cells", "DEF")  # type: ignore[no-untyped-call]  # torch's own
_OPS.define(
    "fused_scan(Tensor x, Tensor? lengths, Tensor[] states, Tensor[] weights, str tail, str save)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
_OPS.define(
    "fused_scan_backward(Tensor? dy, Tensor? dh, Tensor? dc, Tensor x, Tensor? lengths, Tensor[] states,"
    " Tensor[] weights, Tensor y, Tensor kept, str tail, str save, bool of_x, bool of_weights)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def fused_scan(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], tail: str, save: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scan one layer.

    Args:
        x: ``[time, batch, input]``.
        lengths: valid steps of each row.
        states: of each direction the parts of its initial state, ``[batch, hidden]`` each.
        weights: of each direction ``W_ih, W_hh, b_ih, b_hh``, as torch lays them out.
        tail: a name in :data:`.library.TAILS`.
        save: what is kept for the derivative: ``none``, ``gates``, or ``recompute``, which keeps c alone.

    Returns:
        The outputs, the final h and c ``[directions, batch, hidden]`` (c is empty where the cell has none; on a GPU
        both are float32), and what is kept, of which the shape alone is promised.
    """
    result: tuple[Tensor, Tensor, Tensor, Tensor]
    if _is_plain((x, *states, *weights)):
        result = _Scan.apply(x, lengths, tail, save, len(states), *states, *weights)  # type: ignore[no-untyped-call]  # torch's
    else:
        result = torch.ops.seqlab_cells.fused_scan(x, lengths, states, weights, tail, save)
    return result


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether nobody looks on who has to see an operator: a compiler, a mode, a transform, another kind of tensor.

    The operator's way through torch takes some 0.4 ms a step, a sixth of what a small layer takes.
    """
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return not torch._C._are_functorch_transforms_active() and all(type(each) in _PLAIN for each in tensors)


def why_eager(tail: str, dtype: torch.dtype) -> str | None:
    """Say why the scan is not in C++ on a CPU; ``None`` where it is. Compiles on the first call."""
    try:
        compiled(tail, dtype)
    except NoCompilerError as error:
        return str(error)
    return None


def _way(x: Tensor, tail: str) -> Any:
    if limits.taken(x):
        return launch
    return eager if why_eager(tail, x.dtype) else library


def _state_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if limits.taken(x) else x.dtype


def _kept(x: Tensor, tail: Tail, hidden: int, save: str, steps: int) -> int:
    return launch.room(tail, hidden, save, x.dtype, steps) if limits.taken(x) else steps * tail.record(hidden, save)


def _forward(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], tail: str, save: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor, Tensor] = _way(x, tail).forward(
        x, lengths, states, weights, TAILS[tail], save
    )
    return result


def _backward(
    dy: Tensor | None,
    dh: Tensor | None,
    dc: Tensor | None,
    x: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    y: Tensor,
    kept: Tensor,
    tail: str,
    save: str,
    of_x: bool,
    of_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wanted = (of_x, of_weights)
    result: tuple[Tensor, Tensor, Tensor, Tensor]
    result = _way(x, tail).backward((dy, dh, dc), x, lengths, states, weights, y, kept, TAILS[tail], save, wanted)
    return result


def _forward_shapes(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor], tail: str, save: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (time, batch, _), hidden, directions = x.shape, weights[1].shape[1], len(weights) // 4
    made = TAILS[tail]
    return (
        x.new_empty(time, batch, directions * hidden),
        x.new_empty(directions, batch, hidden, dtype=_state_dtype(x)),
        x.new_empty(directions if made.leaves == 2 else 0, batch, hidden, dtype=_state_dtype(x)),
        x.new_empty(_kept(x, made, hidden, save, directions * time * batch)),
    )


def _backward_shapes(
    dy: Tensor | None,
    dh: Tensor | None,
    dc: Tensor | None,
    x: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    y: Tensor,
    kept: Tensor,
    tail: str,
    save: str,
    of_x: bool,
    of_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (_, batch, size), hidden, directions = x.shape, weights[1].shape[1], len(weights) // 4
    made = TAILS[tail]
    return (
        x.new_empty(x.shape if of_x else (0,)),
        x.new_empty(directions, batch, hidden, dtype=_state_dtype(x)),
        x.new_empty(directions if made.leaves == 2 else 0, batch, hidden, dtype=_state_dtype(x)),
        x.new_empty((directions, made.gates * hidden * (size + hidden + 2)) if of_weights else (0,)),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, lengths, states, weights, ctx.tail, ctx.save = inputs
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
    ctx: Any, wanted: tuple[bool, list[bool], list[bool]], gradients: Sequence[Tensor | None], backward: Any
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor | None]]:
    """Give the gradients of the input, of the parts of the states, and of the weights."""
    x, lengths, y, kept, *rest = ctx.saved_tensors
    states, weights = rest[: ctx.counts[0]], rest[ctx.counts[0] :]
    of_x, of_states, of_weights = wanted
    dx, dh0, dc0, dw = backward(
        *gradients[:3], x, lengths, states, weights, y, kept, ctx.tail, ctx.save, of_x, any(of_weights)
    )
    made = TAILS[ctx.tail]
    leaves = [leaf[d] for d in range(len(weights) // 4) for leaf in (dh0, dc0)[: made.leaves]]
    parts: list[Tensor | None] = [None] * len(weights)
    if any(of_weights):
        sizes = [weight.numel() for weight in weights[:4]]
        flat = [part for each in dw.unbind() for part in each.split(sizes)]
        parts = [part.view(weight.shape) for part, weight in zip(flat, weights, strict=True)]
    return (
        dx if of_x else None,
        [leaf.to(s.dtype) if each else None for leaf, s, each in zip(leaves, states, of_states, strict=True)],
        [part if each else None for part, each in zip(parts, of_weights, strict=True)],
    )


def _flags(wanted: Any, count: int) -> list[bool]:
    """Read which tensors of a list want a gradient, however this version of torch tells it."""
    return list(wanted) if isinstance(wanted, list | tuple) else [bool(wanted)] * count


@final
class _Scan(torch.autograd.Function):
    """The same without the way through an operator."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lengths: Tensor | None, tail: str, save: str, count: int, *tensors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states, weights = tensors[:count], tensors[count:]
        result = _forward(x, lengths, states, weights, tail, save)
        _setup(ctx, (x, lengths, states, weights, tail, save), result)
        ctx.mark_non_differentiable(result[3])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        of_x, of_rest, count = ctx.needs_input_grad[0], list(ctx.needs_input_grad[5:]), ctx.counts[0]
        wanted = of_x, of_rest[:count], of_rest[count:]
        # Who wants to differentiate this again is told by the operator that it cannot be.
        backward = torch.ops.seqlab_cells.fused_scan_backward if torch.is_grad_enabled() else _backward
        dx, states, weights = _gradients(ctx, wanted, gradients, backward)
        return dx, None, None, None, None, *states, *weights


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    pass


def _no_second_derivative(ctx: Any, *_: Any) -> None:
    raise RuntimeError("kernel=fused has no second derivative; take kernel=loop for it")


for _device in ("CPU", "CUDA"):
    _OPS.impl("fused_scan", _forward, _device)
    _OPS.impl("fused_scan_backward", _backward, _device)
torch.library.register_fake("seqlab_cells::fused_scan", _forward_shapes, lib=_OPS)
torch.library.register_fake("seqlab_cells::fused_scan_backward", _backward_shapes, lib=_OPS)
torch.library.register_autograd("seqlab_cells::fused_scan", _derivative, setup_context=_setup, lib=_OPS)
torch.library.register_autograd(
    "seqlab_cells::fused_scan_backward", _no_second_derivative, setup_context=_keep_nothing, lib=_OPS
)
