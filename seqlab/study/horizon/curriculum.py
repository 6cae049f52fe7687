"""Search for the largest length that runs reach whose training sequences grow."""

from collections.abc import Generator, Mapping
from statistics import median
from typing import TypeAlias, final

from seqlab.study.horizon.search import Batch, Finding, Rules

Reached: TypeAlias = Mapping[int, int | None]
"""Largest length that the run of each seed solves; 0 for none, ``None`` for a run that failed or was not done."""


@final
class CurriculumSearch:
    """Horizon of a row under a curriculum: one run for each seed and learning rate.

    Each run trains on lengths that grow whenever it solves the task, up to the largest distance of the grid. The best
    learning rate has the largest median of the lengths reached (of equals the first). Its seeds give the
    :class:`Finding`: ``horizon`` is the largest length that at least 2/3 of them reach, ``lower`` and ``upper`` are the
    smallest and the largest reached.

    Attributes:
        reached: by learning rate.

    Args:
        rules: settings.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.reached: dict[float, Reached] = {}

    def batches(self) -> Generator[Batch, Reached, None]:
        """Yield the runs of each learning rate for what those before have reached."""
        for rate in self.rules.rates:
            self.reached[rate] = yield Batch(self.rules.grid.distances[-1], rate, self.rules.seeds, further=True)

    @property
    def finding(self) -> Finding:
        """Result so far."""
        every = [length for reached in self.reached.values() for length in reached.values()]
        finished = len(every) == len(self.rules.rates) * len(self.rules.seeds) and None not in every
        known = {
            rate: [length for length in each.values() if length is not None] for rate, each in self.reached.items()
        }
        best = max((rate for rate in known if known[rate]), key=lambda rate: median(known[rate]), default=None)
        if best is None or not any(known[best]):
            return Finding(finished=finished)
        lengths = sorted(known[best], reverse=True)
        horizon = lengths[self.rules.needed - 1] if len(lengths) >= self.rules.needed else None
        return Finding(horizon or None, best, lengths[-1] or None, lengths[0], finished=finished)
