"""A fast path for a plain step: torch's ``scan`` operator, compiled once for every batch and length."""

import logging
from collections.abc import Hashable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from seqlab.contracts import Cell, Kernel, State
from seqlab.contracts.masks import valid_mask
from seqlab.recurrence.adjoint import differentiable_scan, plain_scan
from seqlab.recurrence.graphs import Graphs, Parameters, Step, compilations
from seqlab.recurrence.scan import rebuild, scan

log = logging.getLogger("seqlab")


@final
class Compiled(Kernel):
    """Compiles a cell's step together with the loop over time.

    The projection of all steps runs outside, in one call; what is compiled is one ``scan`` whose sizes of batch and
    time are symbolic, so that one graph serves every batch, and a second one for its derivative. Cells that differ in
    their parameters alone share them. Where the compiler or the cell refuses, the loop runs instead, and one warning
    says why: a step that draws random numbers, changes a buffer or mixes the rows of its batch is refused, because
    its derivative computes the steps again, many rows and times together.
    """

    name = "compiled"
    cell = Cell

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse what cannot be compiled here."""
        if not x.shape[0] or not x.shape[1]:
            return "there is nothing to scan"
        if x.device.type == "meta" or torch._C._functorch.peek_interpreter_stack() is not None:
            return "the input holds no plain numbers"
        return _FAULTS.get(_key(cells[0], x))

    def scan_one(self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Scan by the compiled graph of this kind of cell, or by the loop where the compiler refused it."""
        return _direction(cell, x, state, valid_mask(_full(x) if lengths is None else lengths, x.shape[0]), lengths)


_GRAPHS: dict[Hashable, Graphs] = {}
_FAULTS: dict[tuple[Hashable, ...], str] = {}


def _full(x: Tensor) -> Tensor:
    return torch.full((x.shape[1],), x.shape[0], device=x.device)


def _direction(cell: Cell, x: Tensor, state: State, mask: Tensor, lengths: Tensor | None) -> tuple[Tensor, State]:
    key = _key(cell, x)
    if key in _FAULTS or len(x) == 1:  # the compiler takes the sizes 0 and 1 for constants
        return scan(cell, x, state, lengths)
    if x.shape[1] == 1:
        return _with_a_dead_row(cell, x, state, mask)
    projected, parameters = cell.project(x), _parameters(cell)
    differentiable = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (projected, *state, *parameters.values())
    )
    try:
        if key not in _GRAPHS:
            used = _tried(cell, projected[0, :2].detach(), rebuild(state, [leaf[:2].detach() for leaf in state]))
            compilations.watch()
            _GRAPHS[key] = Graphs(cell, state, used, len(_GRAPHS), x.device.type)
        run = differentiable_scan if differentiable else plain_scan
        y, end = run(_GRAPHS[key], parameters, projected, state, mask)
    except Exception as error:
        what = str(error) if isinstance(error, _RefusalError) else f"{type(error).__name__}: {_first_line(error)}"
        fault = f"the compiler refused {type(cell).__name__}: {what}"
        if fault not in _FAULTS.values():
            log.warning("kernel=compiled: %s; the loop runs instead", fault)
        _FAULTS[key] = fault
        return scan(cell, x, state, lengths)
    return y, rebuild(state, end)


def _with_a_dead_row(cell: Cell, x: Tensor, state: State, mask: Tensor) -> tuple[Tensor, State]:
    """Scan a batch of one row beside a second one that is never alive."""
    x, state = torch.cat([x, torch.zeros_like(x)], dim=1), rebuild(state, [torch.cat([leaf, leaf]) for leaf in state])
    mask = torch.cat([mask, torch.zeros_like(mask)], dim=1)
    y, end = _direction(cell, x, state, mask, mask.sum(0))
    return y[:, :1], rebuild(end, [leaf[:1] for leaf in end])


def _first_line(error: BaseException) -> str:
    """Give the first line of the message, and the second where the first one introduces it."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    return f"{first} {others[0]}" if first.endswith(":") and others else first


def _parameters(cell: Cell) -> Parameters:
    return {f"cell.{name}": value for name, value in [*cell.named_parameters(), *cell.named_buffers()]}


class _RefusalError(ValueError):
    """A step that the compiled scan cannot follow."""


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Notes whether random numbers are drawn."""

    random = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.random |= torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def _tried(cell: Cell, x: Tensor, state: State) -> frozenset[str]:
    """Run the step for two rows; name the parameters that it uses.

    Raises:
        _RefusalError: it does what the compiled scan cannot follow.
    """
    if any(parametrize.is_parametrized(module) for module in cell.modules()):
        raise _RefusalError("its weights are computed from others (weight_drop, or another parametrisation)")
    step, watch = Step(cell), _Watch()  # type: ignore[no-untyped-call]  # torch's own
    own = {name: value.detach().clone() for name, value in _parameters(cell).items()}
    weights = {name: own[name].requires_grad_() for name in own if isinstance(_parameters(cell)[name], nn.Parameter)}
    with torch.random.fork_rng([]), torch.enable_grad(), watch:
        y, new = functional_call(step, own, (x, state))
    if watch.random:
        raise _RefusalError("its step draws random numbers")
    if any(value._version for value in own.values()):
        raise _RefusalError("its step changes a buffer")
    with torch.no_grad():
        alone, _ = functional_call(step, own, (x[:1], rebuild(state, [leaf[:1] for leaf in state])))
    if not torch.allclose(alone, y[:1], rtol=1e-2, atol=1e-3, equal_nan=True):
        raise _RefusalError("its step mixes the rows of a batch")
    results = [result for result in (y, *new) if result.requires_grad]
    if not results or not weights:
        return frozenset()
    found = torch.autograd.grad(
        results, list(weights.values()), [torch.ones_like(result) for result in results], allow_unused=True
    )
    return frozenset(name for name, gradient in zip(weights, found, strict=True) if gradient is not None)


def _key(cell: Cell, x: Tensor) -> tuple[Hashable, ...]:
    """What two cells must share to share a graph: everything but the values of their parameters."""

    def plain(module: nn.Module) -> Hashable:
        kept = {k: repr(v) for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
        return type(module), module.training, tuple(sorted(kept.items()))

    return x.device.type, *((name, plain(module)) for name, module in cell.named_modules())


def fault_of(cell: Cell) -> str | None:
    """Say why the compiler refused a cell of this kind earlier; ``None`` if it has not."""
    kinds = (fault for key, fault in _FAULTS.items() if key[1:] == _key(cell, torch.empty(0))[1:])
    return next(kinds, None)
