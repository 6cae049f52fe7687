"""Independently recurrent network."""

from seqlab_cells.indrnn.cell import IndRNN

__all__ = ["IndRNN"]
