"""Kernel that compiles the step of any cell with torch's ``scan`` operator, for all batch sizes and lengths."""

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
from seqlab.recurrence.graphs import Graphs, Parameters, Step, compilations, differentiable_scan, plain_scan
from seqlab.recurrence.scan import rebuild, row_lengths, scan

log = logging.getLogger("seqlab")


@final
class Compiled(Kernel):
    """A cell's step compiled together with the loop over time.

    The projection of all steps runs outside, in one call. One graph with symbolic sizes of batch and time serves all
    batches, and a second one its derivative; cells that differ in their parameters alone share them. If compilation
    fails, the loop runs instead and one warning says why. A step that draws random numbers, changes a buffer or mixes
    the rows of its batch is refused: the derivative computes steps again, many rows and times together.
    """

    name = "compiled"
    cell = Cell

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse empty input, tensors without values, and cells whose compilation failed."""
        if not x.shape[0] or not x.shape[1]:
            return "there is nothing to scan"
        if x.device.type == "meta" or torch._C._functorch.peek_interpreter_stack() is not None:
            return "the input holds no plain numbers"
        return _FAULTS.get(_key(cells[0], x))

    def scan_one(self, cell: Cell, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Scan by the compiled graph of this kind of cell, or by the loop where the compiler refused it."""
        return _direction(cell, x, state, valid_mask(row_lengths(x, lengths), x.shape[0]), lengths)


_GRAPHS: dict[Hashable, Graphs] = {}
_FAULTS: dict[tuple[Hashable, ...], str] = {}


def _direction(cell: Cell, x: Tensor, state: State, mask: Tensor, lengths: Tensor | None) -> tuple[Tensor, State]:
    key = _key(cell, x)
    if key in _FAULTS or len(x) == 1:  # the compiler treats sizes 0 and 1 as constants
        return scan(cell, x, state, lengths)
    if x.shape[1] == 1:
        return _scan_with_dummy_row(cell, x, state, mask)
    projected, parameters = cell.project(x), _parameters(cell)
    differentiable = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (projected, *state, *parameters.values())
    )
    try:
        if key not in _GRAPHS:
            used = _checked_parameters(
                cell, projected[0, :2].detach(), rebuild(state, [leaf[:2].detach() for leaf in state])
            )
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


def _scan_with_dummy_row(cell: Cell, x: Tensor, state: State, mask: Tensor) -> tuple[Tensor, State]:
    """Scan a batch of one row beside a dummy row that has no valid step."""
    x, state = torch.cat([x, torch.zeros_like(x)], dim=1), rebuild(state, [torch.cat([leaf, leaf]) for leaf in state])
    mask = torch.cat([mask, torch.zeros_like(mask)], dim=1)
    y, end = _direction(cell, x, state, mask, mask.sum(0))
    return y[:, :1], rebuild(end, [leaf[:1] for leaf in end])


def _first_line(error: BaseException) -> str:
    """Return the first line of the message, and the second if the first ends in a colon."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    return f"{first} {others[0]}" if first.endswith(":") and others else first


def _parameters(cell: Cell) -> Parameters:
    return {f"cell.{name}": value for name, value in [*cell.named_parameters(), *cell.named_buffers()]}


class _RefusalError(ValueError):
    """A step that the compiled scan cannot compute."""


class _RandomnessDetector(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Records whether random numbers are drawn."""

    random = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.random |= torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def _checked_parameters(cell: Cell, x: Tensor, state: State) -> frozenset[str]:
    """Run the step on two rows, and return the names of the parameters that it uses."""
    if any(parametrize.is_parametrized(module) for module in cell.modules()):
        raise _RefusalError("its weights are computed from others (weight_drop, or another parametrisation)")
    step, detector = Step(cell), _RandomnessDetector()  # type: ignore[no-untyped-call]  # torch's own
    own = {name: value.detach().clone() for name, value in _parameters(cell).items()}
    weights = {name: own[name].requires_grad_() for name in own if isinstance(_parameters(cell)[name], nn.Parameter)}
    with torch.random.fork_rng([]), torch.enable_grad(), detector:
        y, new = functional_call(step, own, (x, state))
    if detector.random:
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
    """Return what cells with the same graph have in common: all but the values of their parameters."""

    def plain(module: nn.Module) -> Hashable:
        kept = {k: repr(v) for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
        return type(module), module.training, tuple(sorted(kept.items()))

    return x.device.type, *((name, plain(module)) for name, module in cell.named_modules())


def fault_of(cell: Cell) -> str | None:
    """Return why the compiler refused a cell of this kind; ``None`` if it did not."""
    kinds = (fault for key, fault in _FAULTS.items() if key[1:] == _key(cell, torch.empty(0))[1:])
    return next(kinds, None)
