"""Making the cells that the checks run."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from seqlab.contracts import Cell
from seqlab.testing.suite import demand

_HIDDEN_SIZES = (5, 4, 6, 8, 12, 16, 32, 64, 128)
"""Tried in turn: 5 is small, odd and equal to no other size; some cells want an even one, or room for heads."""


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
    raise AssertionError(f"hidden_size {', '.join(map(str, sizes))}: the constructor refuses: {refused}")
