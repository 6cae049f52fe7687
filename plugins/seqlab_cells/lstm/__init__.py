"""Long short-term memory."""

from seqlab_cells.lstm.cell import LSTM

__all__ = ["LSTM"]
