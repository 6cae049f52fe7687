"""The suite of tasks, by what its checks look at."""

from seqlab.testing.tasks.suite import TaskSuite

__all__ = ["TaskSuite"]
