"""Conformance tests of the minimal gated unit."""

from seqlab.testing import CellSuite
from seqlab_mgu import MGU


class TestMGU(CellSuite):
    cell = MGU
