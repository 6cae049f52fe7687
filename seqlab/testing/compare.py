"""A kernel against the reference loop: outputs, states and every gradient."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel, State
from seqlab.recurrence.choose import Loop
from seqlab.recurrence.state import rebuild
from seqlab.testing.suite import agree, demand

MakeCells: TypeAlias = Callable[[int, torch.dtype], Sequence[Cell]]
"""From a number of directions and a dtype to the cells of a layer."""

TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-4}
"""By dtype, relative to the largest entry; a kernel in float32 is held against the loop in float64."""

LENGTHS: dict[str, list[int] | None] = {
    "full rows": None,
    "ragged rows": [7, 1, 4, 6],
    "a row of length 0": [0, 7, 3, 0],
}
_TIME = 7


def refusal_everywhere(kernel: Kernel, make: MakeCells) -> str | None:
    """Give a kernel's reason if it refuses all that :func:`check_kernel` would ask of it."""
    reason = None
    for dtype in TOLERANCES:
        cells = make(1, dtype)
        reason = kernel.refuses(cells, torch.zeros(_TIME, 4, cells[0].input_size, dtype=dtype), None)
        if reason is None:
            return None
    return reason


def check_kernel(kernel: Kernel, make: MakeCells, dtypes: Sequence[torch.dtype] = tuple(TOLERANCES)) -> None:
    """Hold a kernel against the loop in all that it does not refuse."""
    for dtype in dtypes:
        for directions in (1, 2):
            for what, rows in LENGTHS.items():
                where = f"kernel {kernel.name}, {what}, {'both directions' if directions == 2 else 'forward'}, {dtype}"
                lengths = None if rows is None else torch.tensor(rows)
                check_once(kernel, make(directions, dtype), draw(make, dtype, 4), lengths, where)
        check_once(kernel, make(1, dtype), draw(make, dtype, 1)[:1], None, f"kernel {kernel.name}, one step of one row")


def draw(make: MakeCells, dtype: torch.dtype, batch: int, time: int = _TIME) -> Tensor:
    """Draw an input."""
    size = make(1, dtype)[0].input_size
    generator = torch.Generator().manual_seed(5)
    return torch.randn(time, batch, size, generator=generator, dtype=torch.float64).to(dtype)


def check_once(
    kernel: Kernel, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None, where: str, *, poison: bool = True
) -> None:
    """Hold a kernel against the loop on one input; where it refuses, there is nothing to hold.

    Args:
        kernel: the kernel.
        cells: the layer's cells, one for each direction.
        x: the input; what stands in its padding is replaced by NaN for the kernel if ``poison``.
        lengths: valid steps of each row.
        where: what a failure's message begins with.
        poison: whether the kernel gets NaN in the padding.
    """
    if kernel.refuses(cells, x, lengths) is not None:
        return
    wide = [_widened(cell) for cell in cells]
    expected = _everything(Loop(), wide, x.double(), lengths)
    if poison and lengths is not None:
        dead = torch.arange(len(x)).unsqueeze(1) >= lengths
        x = x.masked_fill(dead.unsqueeze(-1), torch.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        actual = _everything(kernel, cells, x, lengths)
    demand(actual.keys() == expected.keys(), f"{where}: the final state has another number of leaves")
    for name, value in expected.items():
        agree(f"{where}: {name}", actual[name], value, TOLERANCES[x.dtype])


def _widened(cell: Cell) -> Cell:
    """A copy in float64; the loop on it is the truth."""
    return copy.deepcopy(cell).double()


def starts(cells: Sequence[Cell], x: Tensor) -> list[State]:
    """States that the cells come to by themselves after two steps of some input, the same in every dtype."""
    generator = torch.Generator().manual_seed(6)
    past = torch.randn(2, x.shape[1], x.shape[2], generator=generator, dtype=torch.float64).to(x.dtype)
    states = []
    for cell in cells:
        with torch.no_grad():
            _, (state,) = Loop().scan([cell], past, [cell.initial_state(past[0])], None)
        leaves = [leaf.detach().clone().requires_grad_(leaf.is_floating_point()) for leaf in state]
        states.append(rebuild(state, leaves))
    return states


def _everything(kernel: Kernel, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> dict[str, Tensor]:
    """Outputs, final states, and the gradients of inputs, initial states and parameters, by name."""
    x = x.detach().clone().requires_grad_()
    states = starts(cells, x)
    y, ends = kernel.scan(cells, x, states, lengths)
    demand(len(ends) == len(cells), f"kernel {kernel.name} gives {len(ends)} final states for {len(cells)} cells")
    found = {"outputs": y}
    for index, (cell, end) in enumerate(zip(cells, ends, strict=True)):
        found |= {
            f"final state {name} of cell {index}": leaf for name, leaf in zip(cell.state_names, end, strict=False)
        }
    generator = torch.Generator().manual_seed(8)
    parts = [part for part in found.values() if part.is_floating_point()]
    weights = [torch.randn(part.shape, generator=generator, dtype=torch.float64).to(part.dtype) for part in parts]
    total = torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum()
    sources = {"the inputs": x}
    for index, (cell, state) in enumerate(zip(cells, states, strict=True)):
        sources |= {
            f"initial state {name} of cell {index}": leaf
            for name, leaf in zip(cell.state_names, state, strict=True)
            if leaf.requires_grad
        }
        sources |= {f"{name} of cell {index}": p for name, p in cell.named_parameters() if p.requires_grad}
    if not total.requires_grad:
        gradients: Sequence[Tensor | None] = [None] * len(sources)
    else:
        gradients = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
    result = {name: value.detach() for name, value in found.items()}
    for (name, source), gradient in zip(sources.items(), gradients, strict=True):
        result[f"the gradient of {name}"] = torch.zeros_like(source) if gradient is None else gradient
    return result
