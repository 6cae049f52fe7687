"""Conformance tests for plugins, as suites that a plugin's tests subclass in three lines.

::

    from seqlab.testing import CellSuite

    class TestMyCell(CellSuite):
        cell = MyCell
"""

from seqlab.testing.cells import CellSuite
from seqlab.testing.kernels import KernelSuite
from seqlab.testing.preprocessors import PreprocessorSuite
from seqlab.testing.suite import Outcome, Suite, run_suite
from seqlab.testing.tasks import TaskSuite

__all__ = ["CellSuite", "KernelSuite", "Outcome", "PreprocessorSuite", "Suite", "TaskSuite", "run_suite"]
