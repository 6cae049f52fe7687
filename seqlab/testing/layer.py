"""One call of a recurrent layer: its cells and input, and the results and gradients of a kernel on it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel, State
from seqlab.recurrence import scan
from seqlab.recurrence.scan import map_state, rebuild
from seqlab.recurrence.selection import Loop
from seqlab.testing.suite import require

Values: TypeAlias = dict[str, Tensor]
"""Outputs, final states and gradients, by name."""

Layout: TypeAlias = Callable[[Tensor], Tensor]
"""Differentiable change of a tensor's memory layout."""

LAYOUTS: dict[str, Layout] = {
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "strided": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "with the last axis first": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "part of a larger tensor": lambda x: torch.cat([x, x], dim=1)[:, x.shape[1] :],
    "not the first part of a larger tensor": lambda x: torch.cat([x[:1], x])[1:],
    "expanded over the second axis": lambda x: x[:, :1].expand(x.shape),
    "expanded over the first axis": lambda x: x[:1].expand(x.shape),
}
"""Memory layouts of a tensor of at least two axes; the expanded ones change its values, too."""

_HIDDEN_SIZES = (5, 4, 6, 8, 12, 16, 32, 64, 128)
"""Tried in turn: 5 is small, odd and equal to no other size; some cells want an even one, or room for heads."""


class RefusedError(AssertionError):
    """The constructor refuses these sizes or options."""


def make_cell(
    factory: Callable[..., Cell],
    arguments: Mapping[str, Any],
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    train: bool = False,
) -> Cell:
    """Return a cell whose weights depend on the seed alone.

    ``hidden_size``, unless in ``arguments``, is the first of 5 and a few rounder sizes that the constructor accepts.

    Raises:
        RefusedError: its constructor refuses the arguments; the message has its reason.
        AssertionError: it needs other arguments, or returns no cell.
    """
    sizes = [arguments["hidden_size"]] if "hidden_size" in arguments else _HIDDEN_SIZES
    refused: Exception | None = None
    for size in sizes:
        torch.manual_seed(seed)
        try:
            cell = factory(**{**arguments, "hidden_size": size})
        except (ValueError, AssertionError) as error:
            refused = error
            continue
        except TypeError as error:
            fault = f"the constructor must take input_size and hidden_size, and need nothing else: {error}"
            raise AssertionError(fault) from error
        require(isinstance(cell, Cell), f"the factory returns a {type(cell).__name__}, not a seqlab.Cell")
        return (cell.double() if dtype == torch.float64 else cell.float()).train(train)  # leaves complex weights alone
    raise RefusedError(f"hidden_size {', '.join(map(str, sizes))}: the constructor refuses: {refused}")


def is_random(cell: Cell) -> bool:
    """Return whether two calls of a cell with different seeds differ in its present mode."""
    dtype = next((p.dtype for p in cell.parameters() if p.is_floating_point()), torch.float64)
    x = torch.randn(4, 2, cell.input_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    results = []
    with torch.no_grad(), torch.random.fork_rng([]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            y, end = scan(cell, x, cell.initial_state(x[0]))
            results.append((y, *end))
    return not all(map(torch.equal, *results))


@final
@dataclass(frozen=True)
class Call:
    """One layer's input, and which results and gradients to compute.

    Attributes:
        cells: one for each direction, in float32, so that copies in other dtypes have the same weights.
        x: ``[time, batch, input]``.
        lengths: valid steps of each row.
        where: begins the message of a failure.
        nan_padding: whether the padding is NaN for the kernel.
        results: the terms of the loss, all unless given: ``outputs``, ``final state h of cell 0``.
        sources: what needs a gradient, all unless given: ``the inputs``, ``initial state h of cell 0``, and parameters
            such as ``from_input.weight of cell 0``.
        grad: whether gradients are enabled.
        final_state: whether to call ``Kernel.scan``, or ``Kernel.outputs``.
        last: whether to call ``Kernel.last`` instead.
        layout: of the input in memory.
        state_layout: of each initial state in memory.
    """

    cells: Sequence[Cell]
    x: Tensor
    lengths: Tensor | None
    where: str
    nan_padding: bool = True
    results: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    grad: bool = True
    final_state: bool = True
    last: bool = False
    layout: Layout = lambda x: x
    state_layout: Layout = lambda x: x

    def in_dtype(self, dtype: torch.dtype) -> "Call":
        """Return a copy, cells included, in another precision."""
        twins = [copy.deepcopy(cell) for cell in self.cells]
        # Which leave complex weights alone, as ``to`` does not.
        cells = [twin.double() if dtype == torch.float64 else twin.float() for twin in twins]
        return replace(self, cells=cells, x=self.x.to(dtype))

    def at(self, *parts: object) -> "Call":
        """Return a copy with more in ``where``."""
        return replace(self, where=", ".join([self.where, *map(str, parts)]))

    def given(self) -> tuple[Tensor, Tensor]:
        """Return the input as a leaf of the graph, and as it is passed to the kernel."""
        x = self.x.detach().clone()
        if self.nan_padding and self.lengths is not None:
            padding = torch.arange(len(x)).unsqueeze(1) >= self.lengths
            x.masked_fill_(padding.unsqueeze(-1), torch.nan)
        if self.differentiable:
            x.requires_grad_(self.sources is None or "the inputs" in self.sources)
        return x, self.layout(x)

    @property
    def differentiable(self) -> bool:
        """Whether gradients are enabled, in the call and in torch."""
        return self.grad and torch.is_grad_enabled()


@final
@dataclass(frozen=True)
class Forward:
    """Results of a forward pass, with their graph.

    Attributes:
        call: what was computed.
        results: outputs and final states, by name.
        sources: the tensors whose gradients are wanted, by name.
        frozen: the other tensors that could have a gradient.
        x: the input that was passed to the kernel.
        states: the initial states that were passed to the kernel.
    """

    call: Call
    results: Values
    sources: Values
    frozen: Values
    x: Tensor
    states: list[State]

    @property
    def loss(self) -> Tensor:
        """A sum of all entries of the results with random weights."""
        return _weighted_sum(self.results, self.call.results)

    def gradients(self, loss: Tensor | None = None) -> Values:
        """Return the gradients by name, zero where none arrives; the graph is kept."""
        return differentiate(self.loss if loss is None else loss, self.sources)

    def values(self) -> Values:
        """Copy the results without their graph."""
        return {name: value.detach().clone() for name, value in self.results.items()}


def differentiate(total: Tensor, sources: Mapping[str, Tensor]) -> Values:
    """Return the gradients of a scalar by the names of their sources, zero where none arrives; the graph is kept."""
    found: Sequence[Tensor | None] = [None] * len(sources)
    if total.requires_grad and sources:
        found = torch.autograd.grad(total, list(sources.values()), retain_graph=True, allow_unused=True)
    return named_gradients(sources, found)


def named_gradients(sources: Mapping[str, Tensor], found: Sequence[Tensor | None]) -> Values:
    """Return gradients by the names of their sources, zeros for ``None``."""
    pairs = zip(sources.items(), found, strict=True)
    return {
        f"the gradient of {name}": torch.zeros_like(source) if gradient is None else gradient
        for (name, source), gradient in pairs
    }


def forward(kernel: Kernel, call: Call, *, copied: bool = False) -> Forward:
    """Run a kernel on a call; with ``copied``, inputs and states are passed as copies, not as leaves of the graph."""
    x, passed = call.given()
    start = reached_states(call.cells, x)
    possible = _possible_sources(call.cells, x, start)
    wanted = {name: one for name, one in possible.items() if call.sources is None or name in call.sources}
    if call.differentiable:
        for name, source in possible.items():
            source.requires_grad_(name in wanted)
            source.grad = None
    states = [rebuild(state, [call.state_layout(h) if h.dim() > 1 else h for h in state]) for state in start]
    if copied:
        passed, states = passed.clone(), [map_state(torch.clone, state) for state in states]
    with torch.set_grad_enabled(call.differentiable):
        results = _run(kernel, call, passed, states)
    if not call.differentiable:
        return Forward(call, results, {}, {}, passed, states)
    frozen = {name: source for name, source in possible.items() if name not in wanted}
    return Forward(call, results, wanted, frozen, passed, states)


def all_results(kernel: Kernel, call: Call) -> Values:
    """Return outputs, final states and, if gradients are enabled, all gradients, by name."""
    done = forward(kernel, call)
    result = done.values() | done.gradients()
    for source in done.frozen.values():
        source.requires_grad_(True)
    return result


def loop_results(call: Call, dtype: torch.dtype = torch.float64) -> Values:
    """Return :func:`all_results` of the reference loop, in double precision unless stated."""
    return all_results(Loop(), call.in_dtype(dtype))


def _run(kernel: Kernel, call: Call, x: Tensor, states: Sequence[State]) -> Values:
    """Return outputs and final states by name, with their graph."""
    ends: Sequence[State]
    if call.last:
        y, ends = kernel.last(call.cells, x, states, call.lengths, call.final_state)
    elif call.final_state:
        y, ends = kernel.scan(call.cells, x, states, call.lengths)
    else:
        y = kernel.outputs(call.cells, x, states, call.lengths)
    if not call.final_state:
        return {"outputs": y}
    fault = f"kernel {kernel.name} returns {len(ends)} final states for {len(call.cells)} cells"
    require(len(ends) == len(call.cells), fault)
    found = {"outputs": y}
    for index, (cell, end) in enumerate(zip(call.cells, ends, strict=True)):
        names = cell.state_names
        fault = f"kernel {kernel.name}: the final state of cell {index} has {len(end)} tensors, not {', '.join(names)}"
        require(len(end) == len(names), fault)
        found |= {f"final state {name} of cell {index}": h for name, h in zip(names, end, strict=True)}
    return found


def reached_states(cells: Sequence[Cell], x: Tensor) -> list[State]:
    """Return the states that the cells reach after two steps of some input, the same in every dtype."""
    past = random_normal((2, x.shape[1], x.shape[2]), 6).to(x.dtype)
    states = []
    for cell in cells:
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.manual_seed(2)
            _, (state,) = Loop().scan([cell], past, [cell.initial_state(past[0])], None)
        rounded = [(h.float() if h.is_floating_point() else h).to(h.dtype, copy=True) for h in state]
        states.append(rebuild(state, rounded))
    return states


def _possible_sources(cells: Sequence[Cell], x: Tensor, states: Sequence[State]) -> Values:
    """Name all tensors that can have a gradient; a parameter that two directions share is named once."""
    found: Values = {"the inputs": x}
    seen: set[int] = set()
    for index, cell in enumerate(cells):
        for name, h in zip(cell.state_names, states[index], strict=True):
            if h.is_floating_point():
                found[f"initial state {name} of cell {index}"] = h
        for name, parameter in cell.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{name} of cell {index}"] = parameter
    return found


def _weighted_sum(results: Mapping[str, Tensor], only: frozenset[str] | None) -> Tensor:
    """Sum the entries of the named results, all unless given, with random weights."""
    generator = torch.Generator().manual_seed(8)
    total: list[Tensor] = []
    for name, part in results.items():
        if part.is_floating_point():
            weight = torch.randn(part.shape, generator=generator)
            if only is None or name in only:
                total.append((part * weight.to(part.dtype)).sum())
    return torch.stack(total).sum()


def random_normal(shape: Sequence[int], seed: int) -> Tensor:
    """Sample float32 numbers from the normal distribution."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
