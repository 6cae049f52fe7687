"""Minimal long short-term memory."""

from seqlab_cells.minlstm.cell import MinLSTM

__all__ = ["MinLSTM"]
