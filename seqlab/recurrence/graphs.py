"""Compiled scans of a cell, and counts of compilations."""

from __future__ import annotations  # annotations must not be evaluated inside compiled functions

import time
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp

from seqlab.contracts import Cell, State


@final
class Compilations:
    """Counts of torch's compilations in this process, from the first compiled cell on.

    Attributes:
        count: graphs; the backward half of a graph is not counted again.
        seconds: time of compiling, forward and backward.
    """

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


class Step(nn.Module):
    """A module whose call is a cell's step, for ``functional_call``.

    Args:
        cell: the cell.
    """

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
            (lambda leaves: kind(*leaves)) if hasattr(kind, "_fields") else tuple
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

                def run(x_t: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
                    y, new = functional_call(step, parameters, (x_t, remake(_fill(old, leaves))))
                    return y, *differentiable(new, old)

                to_y = _where_valid(valid, to_y)
                through = tuple(_where_valid(valid, g) for g in to_new)
                leaves = [leaf for leaf in old if is_continuous(leaf)]
                if inputs:
                    to_x, *to_old = vjp(run, x_t, *leaves)[1]((to_y, *through))
                    seen = (*through, to_x)
                else:
                    to_old = vjp(lambda *leaves: run(x_t, *leaves), *leaves)[1]((to_y, *through))
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


def is_continuous(leaf: Tensor) -> bool:
    """Return whether a state tensor has gradients: integers have none."""
    return leaf.is_floating_point() or leaf.is_complex()


def _fill(old: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
    """Insert the tensors that have gradients at their places."""
    each = iter(leaves)
    return [next(each) if is_continuous(leaf) else leaf for leaf in old]


def differentiable(new: State, old: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors that have gradients, in the dtype of the carried state, which autocast may lower."""
    return [n.to(o.dtype) for n, o in zip(new, old, strict=True) if is_continuous(o)]


def _own(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Copy a function with its own code object."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{number}")
    return FunctionType(code, globals(), closure=function.__closure__)
