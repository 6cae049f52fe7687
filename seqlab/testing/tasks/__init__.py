"""Conformance tests of tasks."""

from seqlab.testing.tasks.data import DataChecks, SplitChecks
from seqlab.testing.tasks.leaks import HeadChecks, LeakChecks
from seqlab.testing.tasks.loss import LossChecks, MeanChecks
from seqlab.testing.tasks.metrics import BaselineChecks, MetricChecks
from seqlab.testing.tasks.repeats import OutputChecks, RepeatChecks

__all__ = ["TaskSuite"]


class TaskSuite(
    OutputChecks,
    BaselineChecks,
    MetricChecks,
    MeanChecks,
    LossChecks,
    HeadChecks,
    LeakChecks,
    SplitChecks,
    RepeatChecks,
    DataChecks,
):
    """Checks of a task; a subclass names it. The checks run from the last base to the first.

    Attributes:
        task: its type, or a factory that takes its options.
        options: arguments of its constructor, such as ``{"data_dir": ...}``.
        preprocessor: makes what encodes the texts; the task's default unless given.
    """
