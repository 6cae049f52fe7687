"""LSTM in one call."""

from typing import final

from seqlab import Cell
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.lstm.cell import LSTM


@final
class LSTMFused(Fused):
    """The fused scan of an LSTM."""

    cell = LSTM

    def tail(self, cell: Cell) -> str:
        """Name it."""
        return "Lstm"
