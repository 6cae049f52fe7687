"""What the checks of a kernel are made of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from seqlab.contracts import Cell, Kernel
from seqlab.testing.compare import TOLERANCES, hold, refusal_everywhere, short, taken
from seqlab.testing.layer import Call, noise
from seqlab.testing.making import RefusedError, is_random, make_cell
from seqlab.testing.suite import Suite, demand

_SMALL: tuple[tuple[str, list[int] | None, int], ...] = (
    ("full rows", None, 1),
    ("ragged rows, both directions", [0, 7, 3, 5], 2),
    ("ragged rows", [0, 7, 3, 5], 1),
)
"""What is tried in each check: a name, the rows' lengths, and the number of directions."""


class KernelMaking(Suite):
    """Names a kernel and makes it and its cells ready for the checks.

    Attributes:
        kernel: its type, or a factory that takes its options.
        cell: makes the cell it scans; the type in ``Kernel.cell`` unless stated.
        options: what the cell's constructor is to be given besides the sizes.
        kernel_options: what the kernel's constructor is to be given.
        input_size: features of one input step.
    """

    kernel: ClassVar[Callable[..., Kernel]]
    cell: ClassVar[Callable[..., Cell] | None] = None
    options: ClassVar[Mapping[str, Any]] = {}
    kernel_options: ClassVar[Mapping[str, Any]] = {}
    input_size: ClassVar[int] = 3

    def make(self) -> Kernel:
        """Make the kernel."""
        kernel = type(self).kernel(**self.kernel_options)
        demand(isinstance(kernel, Kernel), f"it is a {type(kernel).__name__}, and no seqlab.Kernel")
        return kernel

    def factory(self) -> Callable[..., Cell]:
        """Say what makes the cells."""
        return type(self).cell or self.make().cell

    def cells(
        self, count: int, dtype: torch.dtype = torch.float32, *, train: bool = True, seed: int = 0, **sizes: int
    ) -> list[Cell]:
        """Make one cell for each direction, in training unless it then is random."""
        arguments = {"input_size": self.input_size, **self.options, **sizes}
        made = [
            make_cell(self.factory(), arguments, seed=seed + each, dtype=dtype, train=train) for each in range(count)
        ]
        return [cell.eval() for cell in made] if train and is_random(made[0]) else made

    def setup_method(self, method: Callable[..., Any]) -> None:
        """Seed the random numbers; skip where the kernel refuses all that could be asked of it here."""
        super().setup_method(method)
        if reason := refusal_everywhere(self.make(), self.cells):
            raise SkipTest(f"it refuses here: {reason}")

    def inputs(self, time: int, batch: int, *, size: int | None = None, seed: int = 5) -> Tensor:
        """Draw an input in float32."""
        return noise((time, batch, self.input_size if size is None else size), seed)

    def call(
        self, where: str, rows: Sequence[int] | None, *, directions: int = 1, time: int = 7, batch: int = 4, **more: Any
    ) -> Call:
        """Describe a call: rows of these lengths, of cells that are made with the rest of the arguments."""
        keep = {key: more.pop(key) for key in ("poison", "results", "sources", "grad") if key in more}
        cells = self.cells(directions, **more)
        batch = batch if rows is None else len(rows)
        lengths = None if rows is None else torch.tensor(rows, dtype=torch.int64)
        x = self.inputs(time, batch, size=cells[0].input_size)
        return Call(cells, x, lengths, where, **keep)

    def hold(self, where: str, rows: Sequence[int] | None, **more: Any) -> bool:
        """Hold the kernel against the loop on one call."""
        return hold(self.make(), self.call(where, rows, **more))

    def calls(self, *, gradients: bool = False, **more: Any) -> Iterator[Call]:
        """Give the small calls that the kernel takes: full rows, and ragged ones in both directions, in each dtype.

        Args:
            gradients: whether they must be taken with gradients; else those that are refused are asked without.
            more: how the cells are made.

        Raises:
            SkipTest: it refuses all of them.
        """
        kernel, found = self.make(), 0
        for where, rows, directions in _SMALL:
            plain = self.call(where, rows, directions=directions, **more)
            asked = [taken(kernel, plain.in_dtype(dtype).at(short(dtype))) for dtype in TOLERANCES]
            accepted = [call for call in asked if call is not None and (call.grad or not gradients)]
            found += len(accepted)
            yield from accepted
            if accepted and directions == 2:
                break
        if not found:
            raise SkipTest(f"it refuses them{' with gradients' if gradients else ''}, in float64 and in float32")

    def core(self, where: str) -> None:
        """Hold what matters most of one choice of options: both modes, ragged rows, directions, some sizes."""
        for train in (True, False):
            mode = "training" if train else "evaluation"
            self.hold(f"{where}, full rows, {mode}", None, train=train)
            if not self.hold(f"{where}, ragged rows, both directions, {mode}", [0, 7, 3, 5], directions=2, train=train):
                self.hold(f"{where}, ragged rows, {mode}", [0, 7, 3, 5], train=train)
            self.hold(f"{where}, full rows, {mode}, without gradients", None, train=train, grad=False)
        self.sized(f"{where}, 70 steps", None, time=70, batch=2)
        if "hidden_size" not in self.options:
            self.sized(f"{where}, 33 units", None, time=3, hidden_size=33)

    def sized(self, where: str, rows: Sequence[int] | None, **more: Any) -> bool:
        """Hold the kernel at a size that its cell may refuse."""
        with suppress(RefusedError):
            return self.hold(where, rows, **more)
        return False
