"""One call of a layer: what is given to a kernel, and the results and gradients that come of it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel, State
from seqlab.recurrence.scan import map_state, rebuild
from seqlab.recurrence.selection import Loop
from seqlab.testing.suite import demand

Values: TypeAlias = dict[str, Tensor]
"""Outputs, final states and gradients, by name."""

Layout: TypeAlias = Callable[[Tensor], Tensor]
"""Lays a tensor out in memory in another way; a derivative flows through it."""


def plain(x: Tensor) -> Tensor:
    """Leave a tensor as it is."""
    return x


LAYOUTS: dict[str, Layout] = {
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "strided": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "with the last axis first": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "part of a larger tensor": lambda x: torch.cat([x, x], dim=1)[:, x.shape[1] :],
    "not the first part of a larger tensor": lambda x: torch.cat([x[:1], x])[1:],
    "expanded over the second axis": lambda x: x[:, :1].expand(x.shape),
    "expanded over the first axis": lambda x: x[:1].expand(x.shape),
}
"""Ways to lay a tensor of two axes or more out; the expanded ones change its numbers as well."""


@final
@dataclass(frozen=True)
class Call:
    """One layer's input, and what is asked of it.

    Attributes:
        cells: one for each direction; made in float32, so that the copies in other dtypes hold the same numbers.
        x: ``[time, batch, input]``.
        lengths: valid steps of each row.
        where: what a failure's message begins with.
        poison: whether the kernel gets NaN in the padding.
        results: the parts of the loss, all unless given: ``outputs``, ``final state h of cell 0``.
        sources: what needs a gradient, all unless given: ``the inputs``, ``initial state h of cell 0``, and parameters
            such as ``from_input.weight of cell 0``.
        grad: whether gradients are enabled.
        final_state: whether the final states are asked for, or ``Kernel.outputs`` alone.
        layout: of the input in memory.
        state_layout: of each initial state in memory.
    """

    cells: Sequence[Cell]
    x: Tensor
    lengths: Tensor | None
    where: str
    poison: bool = True
    results: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    grad: bool = True
    final_state: bool = True
    layout: Layout = plain
    state_layout: Layout = plain

    def in_dtype(self, dtype: torch.dtype) -> "Call":
        """Copy it, cells included, in another precision."""
        twins = [copy.deepcopy(cell) for cell in self.cells]
        # Which leave complex weights alone, as ``to`` does not.
        cells = [twin.double() if dtype == torch.float64 else twin.float() for twin in twins]
        return replace(self, cells=cells, x=self.x.to(dtype))

    def at(self, *parts: object) -> "Call":
        """Add to where it is."""
        return replace(self, where=", ".join([self.where, *map(str, parts)]))

    def given(self) -> tuple[Tensor, Tensor]:
        """Make the input as a kernel gets it: the leaf of the graph, and what is handed over."""
        x = self.x.detach().clone()
        if self.poison and self.lengths is not None:
            dead = torch.arange(len(x)).unsqueeze(1) >= self.lengths
            x.masked_fill_(dead.unsqueeze(-1), torch.nan)
        if self.differentiable:
            x.requires_grad_(self.sources is None or "the inputs" in self.sources)
        return x, self.layout(x)

    @property
    def differentiable(self) -> bool:
        """Whether gradients are enabled here and now."""
        return self.grad and torch.is_grad_enabled()


@final
@dataclass(frozen=True)
class Forward:
    """A call run forward, whose graph is kept.

    Attributes:
        call: what was asked.
        results: outputs and final states, by name.
        sources: what a gradient is wanted of, by name.
        frozen: what could have a gradient, and needs none, by name.
        x: the input that was handed over, and no leaf of the graph if so asked.
        states: the same of the initial states.
    """

    call: Call
    results: Values
    sources: Values
    frozen: Values
    x: Tensor
    states: list[State]

    @property
    def loss(self) -> Tensor:
        """A scalar that weighs every entry of the results that count differently."""
        return weighed(self.results, self.call.results)

    def gradients(self, loss: Tensor | None = None) -> Values:
        """Pass backward; the graph can be used again. What no gradient reaches has a gradient of zero."""
        loss = self.loss if loss is None else loss
        found: Sequence[Tensor | None] = [None] * len(self.sources)
        if loss.requires_grad and self.sources:
            found = torch.autograd.grad(loss, list(self.sources.values()), retain_graph=True, allow_unused=True)
        return named_gradients(self.sources, found)

    def thaw(self) -> None:
        """Let what was frozen for this call have a gradient again."""
        for source in self.frozen.values():
            source.requires_grad_(True)

    def values(self) -> Values:
        """Copy the results without their graph."""
        return {name: value.detach().clone() for name, value in self.results.items()}


def named_gradients(sources: Mapping[str, Tensor], found: Sequence[Tensor | None]) -> Values:
    """Name gradients by what they are of, zeros where there is none."""
    pairs = zip(sources.items(), found, strict=True)
    return {
        f"the gradient of {name}": torch.zeros_like(source) if gradient is None else gradient
        for (name, source), gradient in pairs
    }


def forward(kernel: Kernel, call: Call, *, copied: bool = False) -> Forward:
    """Run a kernel on a call.

    Args:
        kernel: the kernel.
        call: what to run; its cells' parameters are frozen unless they are sources of it.
        copied: whether inputs and states are handed over as copies, which are no leaves of the graph.
    """
    x, handed = call.given()
    leaves = starts(call.cells, x)
    possible = sources_of(call.cells, x, leaves)
    wanted = {name: one for name, one in possible.items() if call.sources is None or name in call.sources}
    if call.differentiable:
        for name, source in possible.items():
            source.requires_grad_(name in wanted)
            source.grad = None
    states = [
        rebuild(state, [call.state_layout(leaf) if leaf.dim() > 1 else leaf for leaf in state]) for state in leaves
    ]
    if copied:
        handed, states = handed.clone(), [map_state(torch.clone, state) for state in states]
    with torch.set_grad_enabled(call.differentiable):
        results = _run(kernel, call, handed, states)
    if not call.differentiable:
        return Forward(call, results, {}, {}, handed, states)
    frozen = {name: source for name, source in possible.items() if name not in wanted}
    return Forward(call, results, wanted, frozen, handed, states)


def everything(kernel: Kernel, call: Call) -> Values:
    """Give outputs, final states, and, where gradients are enabled, those of all sources, by name."""
    done = forward(kernel, call)
    result = done.values() | done.gradients()
    done.thaw()
    return result


def _run(kernel: Kernel, call: Call, x: Tensor, states: Sequence[State]) -> Values:
    """Give outputs and final states by name, with their graph."""
    if not call.final_state:
        return {"outputs": kernel.outputs(call.cells, x, states, call.lengths)}
    y, ends = kernel.scan(call.cells, x, states, call.lengths)
    fault = f"kernel {kernel.name} gives {len(ends)} final states for {len(call.cells)} cells"
    demand(len(ends) == len(call.cells), fault)
    found = {"outputs": y}
    for index, (cell, end) in enumerate(zip(call.cells, ends, strict=True)):
        names = cell.state_names
        fault = f"kernel {kernel.name}: the final state of cell {index} has {len(end)} tensors, not {', '.join(names)}"
        demand(len(end) == len(names), fault)
        found |= {f"final state {name} of cell {index}": leaf for name, leaf in zip(names, end, strict=True)}
    return found


def starts(cells: Sequence[Cell], x: Tensor) -> list[State]:
    """Give states that the cells come to by themselves after two steps of some input, the same in every dtype."""
    past = noise((2, x.shape[1], x.shape[2]), 6).to(x.dtype)
    states = []
    for cell in cells:
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.manual_seed(2)
            _, (state,) = Loop().scan([cell], past, [cell.initial_state(past[0])], None)
        rounded = [leaf.float() if leaf.is_floating_point() else leaf for leaf in state]
        states.append(
            rebuild(state, [leaf.to(kept.dtype, copy=True) for leaf, kept in zip(rounded, state, strict=True)])
        )
    return states


def sources_of(cells: Sequence[Cell], x: Tensor, states: Sequence[State]) -> Values:
    """Name all that can have a gradient; a parameter that two directions share is named once."""
    found: Values = {"the inputs": x}
    seen: set[int] = set()
    for index, cell in enumerate(cells):
        for name, leaf in zip(cell.state_names, states[index], strict=True):
            if leaf.is_floating_point():
                found[f"initial state {name} of cell {index}"] = leaf
        for name, parameter in cell.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{name} of cell {index}"] = parameter
    return found


def weighed(found: Mapping[str, Tensor], only: frozenset[str] | None = None) -> Tensor:
    """Make a scalar of results that weighs every entry differently.

    Args:
        found: the results.
        only: the names of those that count; all unless given.
    """
    generator = torch.Generator().manual_seed(8)
    total: list[Tensor] = []
    for name, part in found.items():
        if part.is_floating_point():
            weight = torch.randn(part.shape, generator=generator)
            if only is None or name in only:
                total.append((part * weight.to(part.dtype)).sum())
    return torch.stack(total).sum()


def noise(shape: Sequence[int], seed: int) -> Tensor:
    """Draw float32 numbers from the normal distribution."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
