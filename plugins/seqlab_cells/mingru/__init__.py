"""Minimal gated recurrent unit."""

from seqlab_cells.mingru.cell import MinGRU

__all__ = ["MinGRU"]
