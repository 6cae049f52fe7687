"""RNN in one call."""

from typing import final

from seqlab import Cell
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.rnn.cell import RNN


@final
class RNNFused(Fused):
    """The fused scan of an RNN, tanh or relu."""

    cell = RNN

    def tail(self, cell: Cell) -> str:
        """Name its nonlinearity."""
        return "RnnTanh" if cell.nonlinearity == "tanh" else "RnnRelu"
