"""Contract of a kernel: a faster way to scan one type of cell over time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from seqlab.contracts.api import adapt_kernel
from seqlab.contracts.cell import Cell, State
from seqlab.contracts.masks import all_full, last_of_each, reverse_within, zero_padding


class Kernel(ABC):
    """A faster way to scan one cell type; the parameters stay the cell's, which does not know its kernels.

    A kernel computes what the reference loop computes: outputs that are zero on padding, the state after each row's
    last valid step, and every gradient. It implements :meth:`scan_one`, one cell forward over time; the base class adds
    the backward cell, the masks of ragged rows and empty input. A kernel that does all of this itself overrides
    :meth:`scan` instead. The arguments of its constructor are its options in ``kernel=<name>``.
    """

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        adapt_kernel(cls)

    name: ClassVar[str]
    """Name in ``kernel=``; kernels of several cells may share one."""
    cell: ClassVar[type[Cell]]
    """The type of cell that it scans: exactly this one, no subclass (whose step may differ); ``Cell`` is any."""

    @abstractmethod
    def refuses(
        self, cells: Sequence[Cell], x: Shaped[Tensor, "time batch input"], lengths: Int[Tensor, " batch"] | None
    ) -> str | None:
        """Return why this input cannot be scanned, or ``None`` where it can."""

    def scan_one(
        self,
        cell: Cell,
        x: Shaped[Tensor, "time batch input"],
        state: State,
        lengths: Int[Tensor, " batch"] | None,
    ) -> tuple[Shaped[Tensor, "time batch output"], State]:
        """Run one cell forward over all time steps.

        Args:
            cell: the cell.
            x: its input: at least one step, zero on padding, reversed within each row's length for a backward cell.
            state: the state before the first step.
            lengths: valid steps of each row, 0 to ``time``; ``None`` where every row is full.

        Returns:
            The outputs, of any value on padding, and the state after each row's last valid step.
        """
        # Not abstract: a kernel that overrides scan needs no scan_one.
        raise NotImplementedError(f"{type(self).__name__} must implement scan_one, or override scan")

    def scan(
        self,
        cells: Sequence[Cell],
        x: Shaped[Tensor, "time batch input"],
        states: Sequence[State],
        lengths: Int[Tensor, " batch"] | None,
    ) -> tuple[Shaped[Tensor, "time batch output"], list[State]]:
        """Run one layer over all time steps, by :meth:`scan_one` unless overridden.

        Args:
            cells: one cell (forward) or two (forward, backward).
            x: the layer's input, of any value on padding.
            states: the state before the first step, one for each cell.
            lengths: valid steps of each row, 0 to ``time``; ``None`` where every row is full.

        Returns:
            The outputs of all cells side by side, zero on padding, and each cell's final state.
        """
        return scan_directions(self.scan_one, cells, x, states, lengths)

    def outputs(
        self,
        cells: Sequence[Cell],
        x: Shaped[Tensor, "time batch input"],
        states: Sequence[State],
        lengths: Int[Tensor, " batch"] | None,
    ) -> Shaped[Tensor, "time batch output"]:
        """Return the outputs of :meth:`scan` alone; override where they cost less without the final state."""
        return self.scan(cells, x, states, lengths)[0]

    def last(
        self,
        cells: Sequence[Cell],
        x: Shaped[Tensor, "time batch input"],
        states: Sequence[State],
        lengths: Int[Tensor, " batch"] | None,
        final_state: bool,
    ) -> tuple[Shaped[Tensor, "batch output"], list[State]]:
        """Return the output of each cell's last step alone; override where it costs less than the output of all.

        Args:
            cells: as for :meth:`scan`, like the next three; ``x`` has at least one step.
            x: the layer's input.
            states: the initial states.
            lengths: valid steps of each row.
            final_state: whether the states are wanted.

        Returns:
            The outputs side by side, of a backward cell at the row's first step, zero for a row of length 0; and the
            final states of :meth:`scan`, or an empty list.
        """
        ends: list[State] = []
        if final_state:
            y, ends = self.scan(cells, x, states, lengths)
        else:
            y = self.outputs(cells, x, states, lengths)
        return last_of_each(y, lengths, cells[0].output_size), ends

    def speed(
        self, cells: Sequence[Cell], x: Shaped[Tensor, "time batch input"], lengths: Int[Tensor, " batch"] | None
    ) -> float:
        """Estimate the speed of a training step relative to torch's own routine, for ``kernel=auto``; 1 by default.

        Called for input that is not refused, where no measurement of this machine exists.
        """
        return 1.0

    def defer_reason(
        self,
        cells: Sequence[Cell],
        x: Shaped[Tensor, "time batch input"],
        lengths: Int[Tensor, " batch"] | None,
        calls: int | None,
    ) -> str | None:
        """Return why ``kernel=auto`` should not take it in this run; ``None``, the default, where it may.

        For kernels whose compilation does not pay off in a short run. Asked once in a run.

        Args:
            cells: of the first call.
            x: its input ``[time, batch, input]``.
            lengths: valid steps of each row, or ``None``.
            calls: number of such calls in the run; ``None`` where it is unknown.
        """
        return None


ScanOne = Callable[[Cell, Tensor, State, Tensor | None], tuple[Tensor, State]]
"""The signature of :meth:`Kernel.scan_one`."""


def scan_directions(
    scan_one: ScanOne, cells: Sequence[Cell], x: Tensor, states: Sequence[State], lengths: Tensor | None
) -> tuple[Tensor, list[State]]:
    """Run the first cell forward and the second, if there is one, backward within each row's length.

    Args:
        scan_one: runs one cell forward, as :meth:`Kernel.scan_one` does.
        cells: as for :meth:`Kernel.scan`, like the arguments that follow.
        x: the input.
        states: the initial states.
        lengths: valid steps of each row.
    """
    if not x.shape[0]:
        return x.new_zeros(0, x.shape[1], sum(cell.output_size for cell in cells)), list(states)
    if lengths is not None and all_full(lengths, x.shape[0]):
        lengths = None
    if lengths is not None:
        x = zero_padding(x, lengths)
    outputs, final_states = [], []
    for cell, state, backward in zip(cells, states, (False, True), strict=False):
        y, final_state = scan_one(cell, reverse_within(x, lengths) if backward else x, state, lengths)
        outputs.append(reverse_within(y, lengths) if backward else y)
        final_states.append(final_state)
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
    return (y if lengths is None else zero_padding(y, lengths)), final_states
