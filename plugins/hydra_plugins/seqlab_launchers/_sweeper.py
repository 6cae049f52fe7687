"""Hydra's basic sweeper for runs that were composed before, for the plan."""

from collections.abc import Sequence
from typing import final

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


@final
class PlannedSweeper(BasicSweeper):
    """Does not compose each run a second time to see whether it can be composed."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: the plan has seen to it."""
