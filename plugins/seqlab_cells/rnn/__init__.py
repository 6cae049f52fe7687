"""Elman's recurrent network."""

from seqlab_cells.rnn.cell import RNN

__all__ = ["RNN"]
