"""The suite of cells, by what its checks look at."""

from seqlab.testing.cells.suite import CellSuite

__all__ = ["CellSuite"]
