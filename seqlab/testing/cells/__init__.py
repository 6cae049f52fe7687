"""Conformance tests of cells."""

from seqlab.testing.cells.calls import CallChecks, GradientChecks, PathChecks
from seqlab.testing.cells.steps import NumberChecks, RowChecks, StateChecks, StepChecks

__all__ = ["CellSuite"]


class CellSuite(PathChecks, NumberChecks, GradientChecks, StateChecks, RowChecks, CallChecks, StepChecks):
    """Checks of a cell; a subclass names it. The checks run from the last base to the first.

    Attributes:
        cell: the cell's type, or a factory that takes ``input_size`` and ``hidden_size``.
        options: further arguments of its constructor. ``hidden_size`` is 5 unless given, or
            the first of a few rounder sizes that it accepts.
        input_size: features of one input step.
    """

    roots = (
        "shapes_and_dtypes",
        "evaluation_is_deterministic",
        "no_memory_between_calls",
        "sees_changed_parameters",
        "input_is_left_alone",
    )
