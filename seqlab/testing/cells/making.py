"""What the checks of a cell are made of."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.recurrence import scan
from seqlab.recurrence.state import rebuild
from seqlab.testing.making import make_cell
from seqlab.testing.suite import Suite


class CellMaking(Suite):
    """Names a cell and makes it ready for its checks.

    Attributes:
        cell: the cell's type, or a factory that takes ``input_size`` and ``hidden_size``.
        options: what else its constructor is to be given. ``hidden_size`` is 5 unless stated, or
            the first of a few rounder sizes that it takes.
        input_size: features of one input step.
    """

    cell: ClassVar[Callable[..., Cell]]
    options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    def make(self, *, seed: int = 0, dtype: torch.dtype = torch.float64, train: bool = False, **changed: Any) -> Cell:
        """Make the cell, the same at every call with one seed."""
        arguments = {"input_size": self.input_size, **self.options, **changed}
        return make_cell(type(self).cell, arguments, seed=seed, dtype=dtype, train=train)

    def inputs(self, time: int, batch: int, *, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draw an input ``[time, batch, input]`` from the normal distribution."""
        return torch.randn(
            time, batch, self.input_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ).to(dtype)

    @staticmethod
    def run(cell: Cell, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Scan with the reference loop."""
        return scan(cell, x, cell.initial_state(x[0]) if state is None else state, lengths)

    def reached(self, cell: Cell, time: int, batch: int, seed: int = 7) -> State:
        """Give a state that the cell comes to by itself, so that a law among its leaves holds."""
        with torch.no_grad():
            _, state = self.run(cell, self.inputs(time, batch, seed=seed))
        return rebuild(state, [leaf.clone() for leaf in state])
