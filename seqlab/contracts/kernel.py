"""A kernel is a faster way to scan one type of cell over time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Int, Shaped
from torch import Tensor

from seqlab.contracts.cell import Cell, State
from seqlab.contracts.routine import Routine


class Kernel(ABC):
    """A faster way to scan one cell type; the cell does not know it, and the parameters stay the cell's.

    A kernel gives what the reference loop gives: outputs that are zero on padding, the state after each row's last
    valid step, and every gradient. Its constructor's arguments are its options in ``kernel=<name>``.
    """

    name: ClassVar[str]
    """What ``kernel=`` calls it; kernels of several cells may share a name."""
    cell: ClassVar[type[Cell]]
    """The type of cell that it scans: exactly this one, no subclass (whose step may differ); ``Cell`` is any."""

    @abstractmethod
    def refuses(
        self, cells: Sequence[Cell], x: Shaped[Tensor, "time batch input"], lengths: Int[Tensor, " batch"] | None
    ) -> str | None:
        """Say why this input cannot be scanned, or ``None`` where it can."""

    @abstractmethod
    def scan(
        self,
        cells: Sequence[Cell],
        x: Shaped[Tensor, "time batch input"],
        states: Sequence[State],
        lengths: Int[Tensor, " batch"] | None,
    ) -> tuple[Shaped[Tensor, "time batch output"], list[State]]:
        """Run one layer over all time steps.

        Args:
            cells: one cell (forward) or two (forward, backward).
            x: the layer's input.
            states: the state before the first step, one for each cell.
            lengths: valid steps of each row, 0 to ``time``; ``None`` where every row fills all.

        Returns:
            The outputs of all cells side by side, zero on padding, and each cell's final state.
        """

    def outputs(
        self,
        cells: Sequence[Cell],
        x: Shaped[Tensor, "time batch input"],
        states: Sequence[State],
        lengths: Int[Tensor, " batch"] | None,
    ) -> Shaped[Tensor, "time batch output"]:
        """Run one layer where nobody asks for the final state; what :meth:`scan` gives, unless that can be saved."""
        return self.scan(cells, x, states, lengths)[0]

    def speed(
        self, cells: Sequence[Cell], x: Shaped[Tensor, "time batch input"], lengths: Int[Tensor, " batch"] | None
    ) -> float:
        """Estimate how many times as fast as torch's own routine a training step is: what ``kernel=auto`` goes by.

        Only for input that is not refused, and where nothing was measured on the machine at hand. 1 unless overridden.
        """
        return 1.0

    def postpones(
        self,
        cells: Sequence[Cell],
        x: Shaped[Tensor, "time batch input"],
        lengths: Int[Tensor, " batch"] | None,
        calls: int | None,
    ) -> str | None:
        """Say why ``kernel=auto`` should not take it in this run, or ``None`` where it may, as mostly.

        A kernel that must be compiled first may leave runs alone that are too short to win that time back. It is asked
        once in a run.

        Args:
            cells: of the first call.
            x: its input ``[time, batch, input]``.
            lengths: valid steps of each row, or ``None``.
            calls: how many such calls the run will make; ``None`` where that is not known.
        """
        return None

    def routine(self, cell: Cell) -> Routine | None:
        """Say what runs this cell without seqlab, for ``export``; ``None`` where nothing does, as mostly.

        Without it a cell is exported as a loop over its step, which is right as well, and slower.
        """
        return None
