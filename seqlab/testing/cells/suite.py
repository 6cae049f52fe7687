"""Checks that every cell must pass."""

from seqlab.testing.cells.calls import CallChecks, PathChecks
from seqlab.testing.cells.gradients import GradientChecks
from seqlab.testing.cells.values import NumberChecks, RowChecks, StateChecks, StepChecks


class CellSuite(PathChecks, NumberChecks, GradientChecks, StateChecks, RowChecks, CallChecks, StepChecks):
    """Checks of a cell; a subclass names it. The checks run from the last base to the first.

    Attributes:
        cell: the cell's type, or a factory that takes ``input_size`` and ``hidden_size``.
        options: what else its constructor is to be given. ``hidden_size`` is 5 unless stated, or
            the first of a few rounder sizes that it takes.
        input_size: features of one input step.
    """

    roots = (
        "shapes_and_dtypes",
        "evaluation_is_deterministic",
        "no_memory_between_calls",
        "sees_changed_parameters",
        "input_is_left_alone",
    )
