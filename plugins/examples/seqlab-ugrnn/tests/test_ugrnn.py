"""Conformance tests of the update gate RNN."""

from seqlab.testing import CellSuite
from seqlab_ugrnn import UGRNN


class TestMGU(CellSuite):
    cell = UGRNN
