"""Making the cells that the checks run."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from seqlab.contracts import Cell
from seqlab.recurrence import scan
from seqlab.testing.suite import demand

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
    """Make a cell, the same at every call with one seed.

    Args:
        factory: the cell's type, or what takes the same arguments.
        arguments: ``input_size`` and the options; ``hidden_size``, unless stated, is the first of 5 and a few
            rounder sizes that the constructor takes.
        seed: of its weights.
        dtype: of its weights.
        train: whether it is in training.

    Raises:
        RefusedError: its constructor refuses the arguments; the message says why.
        AssertionError: it cannot be made; the message says why.
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
        demand(isinstance(cell, Cell), f"the factory made a {type(cell).__name__}, which is no seqlab.Cell")
        return (cell.double() if dtype == torch.float64 else cell.float()).train(train)  # leaves complex weights alone
    raise RefusedError(f"hidden_size {', '.join(map(str, sizes))}: the constructor refuses: {refused}")


def is_random(cell: Cell) -> bool:
    """Whether two calls with other random numbers differ in the mode that the cell is in."""
    x = torch.randn(4, 2, cell.input_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x.to(next((p.dtype for p in cell.parameters() if p.is_floating_point()), torch.float64))
    results = []
    with torch.no_grad(), torch.random.fork_rng([]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            results.append(scan(cell, x, cell.initial_state(x[0])))
    (first, one), (second, two) = results
    return not (torch.equal(first, second) and all(map(torch.equal, one, two)))
