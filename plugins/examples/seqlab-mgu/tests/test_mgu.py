"""The minimal gated unit by seqlab's conformance kit."""

from seqlab.testing import CellSuite
from seqlab_mgu import MGU


class TestMGU(CellSuite):
    cell = MGU
