"""A fast path for a plain step: torch's ``scan`` operator, compiled once for every batch and length."""

from __future__ import annotations  # inside what is compiled, annotations are not to be evaluated

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from types import FunctionType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from seqlab.contracts import Cell, Kernel, State
from seqlab.recurrence.ragged import alive, blank, reverse_within
from seqlab.recurrence.scan import scan
from seqlab.recurrence.state import rebuild

log = logging.getLogger("seqlab")

Parameters = dict[str, Tensor]


@final
class Compiled(Kernel):
    """Compiles a cell's step together with the loop over time.

    The projection of all steps runs outside, in one call; what is compiled is one ``scan`` whose sizes of batch and
    time are symbolic, so that one graph serves every batch. Cells that differ in their parameters alone share it.
    Where the compiler or the cell refuses, the loop runs instead, and one warning says why.
    """

    name = "compiled"
    cell = Cell

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse what cannot be compiled here."""
        if not x.shape[0] or not x.shape[1]:
            return "there is nothing to scan"
        if (fault := _FAULTS.get(_key(cells[0]))) is not None:
            return fault
        return None

    def scan(
        self, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
    ) -> tuple[Tensor, list[State]]:
        """Scan the first cell forward and the second, if there is one, backward within each row's length."""
        mask = alive(_full(x) if lengths is None else lengths, x.shape[0])
        x = x if lengths is None else blank(x, lengths)
        outputs, ends = [], []
        for cell, state, backward in zip(cells, states, (False, True), strict=False):
            y, end = _direction(cell, reverse_within(x, lengths) if backward else x, state, mask, lengths)
            outputs.append(reverse_within(y, lengths) if backward else y)
            ends.append(end)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)), ends


_GRAPHS: dict[Hashable, Callable[..., Any]] = {}
_FAULTS: dict[Hashable, str] = {}


@final
class Compilations:
    """Counts what torch compiles in this process once a cell was compiled, and the seconds that takes.

    Attributes:
        count: graphs begun; a graph's backward half, which is compiled when it is first needed, is part of it.
        seconds: of compiling, forward and backward.
    """

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self._since: float | None = None

    def watch(self) -> None:
        """Begin to count, if that has not begun."""
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
"""This process's."""


def _full(x: Tensor) -> Tensor:
    return torch.full((x.shape[1],), x.shape[0], device=x.device)


def _direction(cell: Cell, x: Tensor, state: State, mask: Tensor, lengths: Tensor | None) -> tuple[Tensor, State]:
    key = _key(cell)
    if key in _FAULTS or len(x) == 1:  # the compiler takes the sizes 0 and 1 for constants
        return scan(cell, x, state, lengths)
    if x.shape[1] == 1:
        return _with_a_dead_row(cell, x, state, mask)
    if key not in _GRAPHS:
        compilations.watch()
        _GRAPHS[key] = _graph(cell, type(state))
    projected = cell.project(x)
    for tensor in (projected, mask):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
        torch._dynamo.maybe_mark_dynamic(tensor, 1)
    leaves = tuple(leaf.clone() for leaf in state)  # the operator wants carries that are no views of one another
    for leaf in leaves:
        torch._dynamo.maybe_mark_dynamic(leaf, 0)
    try:
        y, end = _GRAPHS[key](_parameters(cell), projected, leaves, mask)
    except Exception as error:
        _FAULTS[key] = f"the compiler refused {type(cell).__name__}: {type(error).__name__}: {_first_line(error)}"
        log.warning("kernel=compiled: %s; the loop runs instead", _FAULTS[key])
        return scan(cell, x, state, lengths)
    return y, rebuild(state, end)


def _with_a_dead_row(cell: Cell, x: Tensor, state: State, mask: Tensor) -> tuple[Tensor, State]:
    """Scan a batch of one row beside a second one that is never alive."""
    x, state = torch.cat([x, torch.zeros_like(x)], dim=1), rebuild(state, [torch.cat([leaf, leaf]) for leaf in state])
    mask = torch.cat([mask, torch.zeros_like(mask)], dim=1)
    y, end = _direction(cell, x, state, mask, mask.sum(0))
    return y[:, :1], rebuild(end, [leaf[:1] for leaf in end])


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]


class _Step(nn.Module):
    """A cell whose call is its step, as ``functional_call`` wants it."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell.step(x, state)


def _parameters(cell: Cell) -> Parameters:
    return {f"cell.{name}": value for name, value in [*cell.named_parameters(), *cell.named_buffers()]}


def _graph(cell: Cell, kind: type) -> Callable[..., Any]:
    """Compile a scan over this cell's step, with the parameters as arguments; ``kind`` is what its state is."""
    from torch._higher_order_ops import scan as scan_operator

    step = _Step(cell)

    def run(parameters: Parameters, x: Tensor, state: State, mask: Tensor) -> tuple[Tensor, State]:
        dtypes = [leaf.dtype for leaf in state]
        exact = [leaf.is_floating_point() or leaf.is_complex() for leaf in state]

        def combine(carry: State, now: tuple[Tensor, Tensor]) -> tuple[State, Tensor]:
            x_t, alive_t = now
            before = [leaf if e else leaf.to(d) for leaf, e, d in zip(carry, exact, dtypes, strict=True)]
            named = kind(*before) if hasattr(kind, "_fields") else tuple(before)
            y, after = functional_call(step, parameters, (x_t, named))
            new = tuple(leaf if e else leaf.to(torch.float64) for leaf, e in zip(after, exact, strict=True))
            kept = tuple(
                torch.where(alive_t.view(-1, *(1,) * (n.dim() - 1)), n, old) for n, old in zip(new, carry, strict=True)
            )
            return kept, torch.where(alive_t.unsqueeze(1), y, torch.zeros_like(y))

        # The operator has no derivative past a carry of integers: they travel as float64, exact up to 2 ** 53.
        start = tuple(leaf if e else leaf.to(torch.float64) for leaf, e in zip(state, exact, strict=True))
        end, outputs = scan_operator(combine, start, (x, mask))
        return outputs, tuple(leaf if e else leaf.to(d) for leaf, e, d in zip(end, exact, dtypes, strict=True))

    # The compiler counts recompilations by code object: each graph gets its own.
    own = FunctionType(run.__code__.replace(co_name=f"scan_{len(_GRAPHS)}"), globals(), closure=run.__closure__)
    return torch.compile(own, fullgraph=True)


def _key(cell: Cell) -> Hashable:
    """What two cells must share to share a graph: everything but the values of their parameters."""

    def plain(module: nn.Module) -> Hashable:
        kept = {k: repr(v) for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
        return type(module), module.training, tuple(sorted(kept.items()))

    return tuple((name, plain(module)) for name, module in cell.named_modules())


def fault_of(cell: Cell) -> str | None:
    """Say why the compiler refused a cell of this kind earlier; ``None`` if it has not."""
    return _FAULTS.get(_key(cell))
