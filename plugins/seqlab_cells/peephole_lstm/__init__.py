"""Long short-term memory whose gates look at the cell."""

from seqlab_cells.peephole_lstm.cell import PeepholeLSTM

__all__ = ["PeepholeLSTM"]
