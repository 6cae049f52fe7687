"""Gated recurrent unit."""

from seqlab_cells.gru.cell import GRU

__all__ = ["GRU"]
