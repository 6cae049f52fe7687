"""GRU in one call."""

from typing import final

from seqlab import Cell
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.gru.cell import GRU


@final
class GRUFused(Fused):
    """The fused scan of a GRU."""

    cell = GRU

    def tail(self, cell: Cell) -> str:
        """Name it."""
        return "Gru"
