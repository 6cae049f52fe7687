"""Long short-term memory whose input gate is what the forget gate leaves."""

from seqlab_cells.coupled_lstm.cell import CoupledLSTM

__all__ = ["CoupledLSTM"]
