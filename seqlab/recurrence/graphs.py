"""Compiled scans of a cell, forward and backward."""

from __future__ import annotations  # annotations must not be evaluated inside compiled functions

import time
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, vjp

from seqlab.contracts import Cell, State


@final
class Compilations:
    """Count of torch's graphs (forward and backward are one) and the seconds of compiling them in this process."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self._since: float | None = None

    def watch(self) -> None:
        """Begin to count; idempotent."""
        if self._since is None:
            from torch._dynamo.callback import on_compile_end, on_compile_start  # takes a second to import

            self._since = 0.0
            on_compile_start(self._start)
            on_compile_end(self._end)

    def _start(self, what: Any) -> None:
        self._since = time.perf_counter()
        self.count += what.callback_trigger.name == "DYNAMO"

    def _end(self, what: Any) -> None:
        self.seconds += time.perf_counter() - (self._since or 0.0)


compilations = Compilations()
"""The counts of this process."""


Parameters = dict[str, Tensor]
Function = TypeVar("Function", bound=Callable[..., Any])


def assume_constant_result(function: Function) -> Function:
    """Mark a function like :func:`torch.compiler.assume_constant_result`, which would import the compiler."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch's name for the mark
    return function


class Step(nn.Module):
    """A module whose call is a cell's step, for ``functional_call``."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one time step."""
        return self.cell.step(x, state)


@final
class Graphs:
    """Compiled scans of a cell with its parameters as arguments, so that cells of other values share them.

    Args:
        cell: the cell.
        state: one of its states, for the type of the tuple.
        used: names of the parameters that its step uses.
        number: makes code objects distinct, by which the compiler counts recompilations.
        device: type of the device.
    """

    def __init__(self, cell: Cell, state: State, used: frozenset[str], number: int, device: str) -> None:
        self.step, self.used, self.proven = Step(cell), used, False
        kind: Any = type(state)
        self.remake: Callable[[Sequence[Tensor]], Any] = (
            (lambda tensors: kind(*tensors)) if hasattr(kind, "_fields") else tuple
        )
        # Without Python between operations a small step runs twice as fast; on a GPU it makes no difference.
        options: Any = {"cpp_wrapper": True} if device == "cpu" else None
        self.forward = torch.compile(_own(self._forward(), number), fullgraph=True, options=options)
        self.backward = torch.compile(_own(self._backward(), number), fullgraph=True, options=options)

    def _forward(self) -> Callable[..., Any]:
        from torch._higher_order_ops import scan

        step, remake = self.step, self.remake

        def forward(parameters: Parameters, x: Tensor, state: tuple[Tensor, ...], mask: Tensor, keep: bool) -> Any:
            def combine(old: Any, now: Any) -> Any:
                x_t, valid = now
                y, new = functional_call(step, parameters, (x_t, remake(old)))
                kept = tuple(torch.where(broadcast_mask(valid, n), n, o) for n, o in zip(new, old, strict=True))
                y = _where_valid(valid, y)
                return kept, (y, *[o.clone() for o in old]) if keep else (y,)

            end, (outputs, *before) = scan(combine, state, (x, mask))
            return outputs, end, before

        return forward

    def _backward(self) -> Callable[..., Any]:
        from torch._higher_order_ops import scan

        step, remake = self.step, self.remake

        def backward(
            parameters: Parameters,
            x: Tensor,
            before: Sequence[Tensor],
            mask: Tensor,
            to_outputs: Tensor,
            to_end: Sequence[Tensor],
            inputs: bool,
        ) -> Any:
            """Scan backward: return the gradients of the initial state, of each new state and of each input."""

            def combine(to_new: Any, now: Any) -> Any:
                x_t, valid, to_y, *old = now

                def run(x_t: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
                    y, new = functional_call(step, parameters, (x_t, remake(_fill(old, tensors))))
                    return y, *differentiable(new, old)

                to_y = _where_valid(valid, to_y)
                through = tuple(_where_valid(valid, g) for g in to_new)
                tensors = [tensor for tensor in old if is_continuous(tensor)]
                if inputs:
                    to_x, *to_old = vjp(run, x_t, *tensors)[1]((to_y, *through))
                    seen = (*through, to_x)
                else:
                    to_old = vjp(lambda *tensors: run(x_t, *tensors), *tensors)[1]((to_y, *through))
                    seen = through
                past = tuple(g + _where_valid(~valid, n) for g, n in zip(to_old, to_new, strict=True))
                return past, tuple(each.clone() for each in seen)

            to_start, each = scan(combine, tuple(to_end), (x, mask, to_outputs, *before), reverse=True)
            return to_start, each

        return backward


def broadcast_mask(mask: Tensor, like: Tensor) -> Tensor:
    """Append axes to a mask of rows so that it broadcasts over ``like``."""
    return mask.view(-1, *(1,) * (like.dim() - 1))


def _where_valid(valid: Tensor, values: Tensor) -> Tensor:
    """Set the rows that the mask leaves out to zero."""
    return torch.where(broadcast_mask(valid, values), values, torch.zeros_like(values))


def is_continuous(tensor: Tensor) -> bool:
    """Return whether a state tensor has gradients: integers have none."""
    return tensor.is_floating_point() or tensor.is_complex()


def _fill(old: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Insert the tensors that have gradients at their places."""
    each = iter(tensors)
    return [next(each) if is_continuous(tensor) else tensor for tensor in old]


def differentiable(new: State, old: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors that have gradients, in the dtype of the carried state, which autocast may lower."""
    return [n.to(o.dtype) for n, o in zip(new, old, strict=True) if is_continuous(o)]


def _own(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Copy a function with its own code object."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{number}")
    return FunctionType(code, globals(), closure=function.__closure__)


_CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Bytes of inputs and states that are differentiated at once: the size of a cache; enough to fill a GPU."""


@final
class CompiledScan(torch.autograd.Function):
    """A scan whose derivative is another scan.

    ``apply(graphs, parameter names, number of state tensors, mask, x, *state, *parameters)``.
    """

    @staticmethod
    def forward(
        ctx: Any, graphs: Graphs, names: Sequence[str], count: int, mask: Tensor, x: Tensor, *rest: Tensor
    ) -> Any:
        """Scan; ``rest`` holds ``count`` tensors of the initial state, then the parameters."""
        state, parameters = rest[:count], dict(zip(names, rest[count:], strict=True))
        outputs, end, before = graphs.forward(*_ready(parameters, x, state, mask), True)
        ctx.graphs, ctx.names, ctx.count, ctx.autocast = graphs, names, count, _autocast(x)
        ctx.save_for_backward(mask, x, *before, *parameters.values())
        ctx.mark_non_differentiable(*[tensor for tensor in end if not is_continuous(tensor)])
        return outputs, *end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_outputs: Tensor, *to_end: Tensor) -> Any:
        """Return the gradients of the input, the initial state and the parameters."""
        mask, x, *rest = ctx.saved_tensors
        before, parameters = rest[: ctx.count], dict(zip(ctx.names, rest[ctx.count :], strict=True))
        _, _, _, _, x_needs, *needs = ctx.needs_input_grad
        needed = {name for name, need in zip(ctx.names, needs[ctx.count :], strict=True) if need}
        wanted = sorted(needed & ctx.graphs.used)
        with ctx.autocast:
            to_start, to_x, to_parameters = gradients(
                ctx.graphs, parameters, x, before, mask, to_outputs, to_end, wanted, x_needs
            )
        starts = iter(to_start)
        to_state = [next(starts) if is_continuous(tensor) else None for tensor in before]
        return None, None, None, None, to_x, *to_state, *[to_parameters.get(name) for name in ctx.names]


def gradients(
    graphs: Graphs,
    parameters: Parameters,
    x: Tensor,
    before: Sequence[Tensor],
    mask: Tensor,
    to_outputs: Tensor,
    to_end: Sequence[Tensor],
    wanted: Sequence[str],
    x_needs: bool,
) -> tuple[Sequence[Tensor], Tensor | None, Parameters]:
    """Return the gradients of the initial state, the input (if it needs one) and the wanted parameters."""
    x, parameters = x.detach(), _detached(parameters)
    to_end = [g.contiguous() for g, tensor in zip(to_end, before, strict=True) if is_continuous(tensor)]
    inside = x_needs and not wanted  # without parameters there is no large product
    _dynamic((x, mask, to_outputs := to_outputs.contiguous(), *before), axes=2)
    _dynamic(to_end, axes=1)
    to_start, each = graphs.backward(parameters, x, before, mask, to_outputs, to_end, inside)
    if inside:
        return to_start, each[-1], {}
    if not (x_needs or wanted):
        return to_start, None, {}
    to_x, sums = torch.zeros_like(x) if x_needs else None, Parameters()
    for chunk in _chunks(x, before):
        _chunk_gradients(graphs, parameters, chunk, x, before, mask, (to_outputs, *each), wanted, to_x, sums)
    return to_start, to_x, sums


def _chunk_gradients(
    graphs: Graphs,
    parameters: Parameters,
    chunk: slice,
    x: Tensor,
    before: Sequence[Tensor],
    mask: Tensor,
    to_results: Sequence[Tensor],
    wanted: Sequence[str],
    to_x: Tensor | None,
    sums: Parameters,
) -> None:
    """Add the gradients of a chunk of time steps, whose valid rows are differentiated as the rows of one step."""
    valid = mask[chunk].flatten()
    rows = None if bool(valid.all()) else valid.nonzero().squeeze(1)

    def flat(tensor: Tensor) -> Tensor:
        flattened = tensor[chunk].flatten(0, 1)
        return flattened if rows is None else flattened.index_select(0, rows)

    with torch.enable_grad():
        inputs = flat(x).detach()
        inputs.requires_grad_(to_x is not None)
        own = {name: value.requires_grad_(name in wanted) for name, value in _detached(parameters).items()}
        old = [flat(tensor) for tensor in before]
        y, new = functional_call(graphs.step, own, (inputs, graphs.remake(old)))
        results = zip((y, *differentiable(new, old)), to_results, strict=True)
        pairs = [(result, flat(g)) for result, g in results if result.requires_grad]
        if not pairs:
            return
        asked = ([inputs] if to_x is not None else []) + [own[name] for name in wanted]
        found = torch.autograd.grad([r for r, _ in pairs], asked, [g for _, g in pairs], allow_unused=True)
    if to_x is not None and found[0] is not None:
        if rows is None:
            to_x[chunk] = found[0].view_as(to_x[chunk])
        else:
            to_x[chunk].flatten(0, 1).index_copy_(0, rows, found[0])
    for name, gradient in zip(wanted, found[len(found) - len(wanted) :], strict=True):
        if gradient is not None:
            sums[name] = sums[name] + gradient if name in sums else gradient


def differentiable_scan(
    graphs: Graphs, parameters: Parameters, x: Tensor, state: Sequence[Tensor], mask: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """Scan with a derivative; the first call tries it, so that a failure occurs before the output is used."""
    if not graphs.proven:
        with torch.no_grad():
            outputs, end, before = graphs.forward(*_ready(parameters, x, state, mask), True)
            nothing = torch.zeros_like(outputs), [torch.zeros_like(tensor) for tensor in end]
            wanted = sorted(name for name in graphs.used if parameters[name].requires_grad)
            gradients(graphs, parameters, x, before, mask, *nothing, wanted, x.requires_grad)
        graphs.proven = True
    names, values = tuple(parameters), parameters.values()
    outputs, *end = CompiledScan.apply(graphs, names, len(state), mask, x, *state, *values)  # type: ignore[no-untyped-call]  # torch's own
    return outputs, end


def plain_scan(
    graphs: Graphs, parameters: Parameters, x: Tensor, state: Sequence[Tensor], mask: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """Scan without a derivative."""
    with torch.inference_mode(False), torch.no_grad():  # inference tensors would be compiled separately
        x, mask = (each.clone() if each.is_inference() else each for each in (x, mask))
        outputs, end, _ = graphs.forward(*_ready(parameters, x, state, mask), False)
    return outputs, end


def _ready(parameters: Parameters, x: Tensor, state: Sequence[Tensor], mask: Tensor) -> Any:
    """Mark batch and time as dynamic, and copy the state: the operator takes no views of one another."""
    x, tensors = x.detach(), tuple(tensor.detach().clone() for tensor in state)
    _dynamic((x, mask), axes=2)
    _dynamic(tensors, axes=1)
    return _detached(parameters), x, tensors, mask


def _detached(parameters: Parameters) -> Parameters:
    """Detach the parameters: the compiler would distinguish those of one cell from those of another."""
    return {name: value.detach() for name, value in parameters.items()}


def _dynamic(tensors: Sequence[Tensor], axes: int) -> None:
    for tensor in tensors:
        for axis in range(axes):
            torch._dynamo.maybe_mark_dynamic(tensor, axis)


def _chunks(x: Tensor, before: Sequence[Tensor]) -> Iterator[slice]:
    bytes_each = sum(tensor[0].numel() * tensor.element_size() for tensor in (x, *before))
    size = max(1, _CHUNK_BYTES.get(x.device.type, _CHUNK_BYTES["cpu"]) // max(1, bytes_each))
    return (slice(begin, begin + size) for begin in range(0, len(x), size))


def _autocast(x: Tensor) -> Any:
    device = x.device.type
    return torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))
