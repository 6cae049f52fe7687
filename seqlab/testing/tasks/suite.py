"""Checks that every task must pass."""

from seqlab.testing.tasks.data import DataChecks, DealingChecks
from seqlab.testing.tasks.leaks import HeadChecks, LeakChecks
from seqlab.testing.tasks.loss import LossChecks, MistakeChecks
from seqlab.testing.tasks.means import MeanChecks
from seqlab.testing.tasks.metrics import BaselineChecks, MetricChecks
from seqlab.testing.tasks.repeats import AnswerChecks, RepeatChecks


class TaskSuite(
    AnswerChecks,
    BaselineChecks,
    MetricChecks,
    MistakeChecks,
    MeanChecks,
    LossChecks,
    HeadChecks,
    LeakChecks,
    DealingChecks,
    RepeatChecks,
    DataChecks,
):
    """Checks of a task; a subclass names it.

    The checks run from the last base to the first.

    Attributes:
        task: its type, or a factory that takes its options.
        options: what the constructor is to be given, such as ``{"data_dir": ...}``.
        preprocessor: makes what encodes the texts; else the task's default is looked up.
    """
