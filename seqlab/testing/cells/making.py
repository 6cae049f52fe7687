"""What the checks of a cell are made of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.recurrence import scan
from seqlab.recurrence.state import rebuild
from seqlab.testing.making import RefusedError, is_random, make_cell
from seqlab.testing.suite import Suite

MODES = {"evaluation": False, "training": True}


@final
@dataclass(frozen=True)
class Setting:
    """A cell in one mode and size, and an input.

    Attributes:
        where: what a failure's message begins with.
        cell: in double precision.
        x: ``[time, batch, input]``.
        random: whether two calls with other random numbers differ, as with dropout.
    """

    where: str
    cell: Cell
    x: Tensor
    random: bool


@final
@dataclass(frozen=True)
class _Size:
    where: str
    time: int
    batch: int
    sizes: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0


_SIZES = (
    _Size("", 6, 4),
    _Size("140 steps", 140, 2),
    _Size("130 rows", 3, 130),
    _Size("one unit", 5, 3, {"hidden_size": 1}),
    _Size("16 units", 4, 3, {"hidden_size": 16}),
    _Size("33 units", 4, 3, {"hidden_size": 33}),
    _Size("65 units", 4, 3, {"hidden_size": 65}),
    _Size("128 units", 3, 2, {"hidden_size": 128}),
    _Size("one input feature", 4, 3, {"input_size": 1}),
    _Size("16 input features", 4, 3, {"input_size": 16}),
    _Size("33 input features", 4, 3, {"input_size": 33}),
    _Size("128 input features", 3, 2, {"input_size": 128}),
    _Size("as many steps, rows, features and units", 5, 5, {"input_size": 5, "hidden_size": 5}),
    _Size("64 input features and units", 4, 3, {"input_size": 64, "hidden_size": 64}),
)
"""Sizes at which the laws of a step are held: small, long, many rows, and widths around powers of two."""

_LARGE = _Size("inputs 1000 times larger", 6, 4, scale=1000.0)


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

    def inputs(
        self, time: int, batch: int, *, seed: int = 1, dtype: torch.dtype = torch.float64, size: int | None = None
    ) -> Tensor:
        """Draw an input ``[time, batch, input]`` from the normal distribution."""
        shape = (time, batch, self.input_size if size is None else size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    def settings(self, *, large: bool = False) -> Iterator[Setting]:
        """Make the cell in both modes, at each size that its constructor takes.

        Args:
            large: whether inputs a thousand times larger are among them.
        """
        for size in (*_SIZES, _LARGE) if large else _SIZES:
            if any(key in self.options for key in size.sizes):
                continue
            for mode, train in MODES.items():
                try:
                    cell = self.make(train=train, **size.sizes)
                except RefusedError:
                    if not size.where:
                        raise
                    break
                where = f"{size.where}, {mode}" if size.where else mode
                x = size.scale * self.inputs(size.time, size.batch, size=cell.input_size)
                yield Setting(where, cell, x, train and is_random(cell))

    @staticmethod
    def run(
        cell: Cell, x: Tensor, state: State | None = None, lengths: Tensor | None = None, *, seed: int = 11
    ) -> tuple[Tensor, State]:
        """Scan with the reference loop, from the same state of the random numbers at every call."""
        torch.manual_seed(seed)
        return scan(cell, x, cell.initial_state(x[0]) if state is None else state, lengths)

    def reached(self, cell: Cell, time: int, batch: int, seed: int = 7) -> State:
        """Give a state that the cell comes to by itself, so that a law among its leaves holds."""
        with torch.no_grad():
            _, state = self.run(cell, self.inputs(time, batch, seed=seed, size=cell.input_size))
        return rebuild(state, [leaf.clone() for leaf in state])
