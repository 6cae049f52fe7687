"""Runs put together: over the seeds at each distance, over the seeds of each setting."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from seqlab.study.report.runs import Run

SHARE = 2 / 3
"""Of the seeds, at least this many must solve a distance for it to count as reached."""


@final
@dataclass(frozen=True)
class Point:
    """Repetitions of one setting, at one distance where there are distances.

    Attributes:
        label: of the setting.
        distance: of the task, if its difficulty is one.
        runs: one for each seed, at the learning rate that validation chose.
        rates: every learning rate that was tried.
    """

    label: str
    distance: int | None
    runs: tuple[Run, ...]
    rates: tuple[float, ...] = ()

    @property
    def scores(self) -> list[float]:
        """The monitored test metric of each run that has one."""
        return [score for run in self.runs if (score := run.score()) is not None]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; ``None`` of a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def solved(self) -> int:
        """How many of the runs solve the task, by their validation scores."""
        return sum(run.solved for run in self.runs)

    @property
    def worth(self) -> float:
        """Mean validation score, negated where smaller is better: what a choice among settings goes by."""
        return worth(self.runs)

    @property
    def learned(self) -> bool:
        """Whether most of the runs validate better than the input-independent baseline."""
        return 2 * sum(run.learned for run in self.runs) > len(self.runs)

    def cost(self, name: str) -> float | None:
        """Give the median of a figure of cost."""
        values = [value for run in self.runs if (value := run.cost(name)) is not None]
        return statistics.median(values) if values else None


@final
@dataclass(frozen=True)
class Reach:
    """How far something gets, of the distances that were run.

    Attributes:
        horizon: the largest distance at which at least 2/3 of the seeds solve the task; ``None`` if there is none.
        lower: the largest distance at which all solve it.
        upper: the smallest one beyond ``lower`` at which none does; ``None`` if none is that large.
        smallest: the smallest distance that was run.
        largest: the largest one.
    """

    horizon: int | None
    lower: int | None
    upper: int | None
    smallest: int
    largest: int


def points(labels: Mapping[Run, str]) -> list[Point]:
    """Group runs of one task by label and distance, at the best learning rate of each.

    The best is the one with the best mean validation score, among those with the most seeds: a single lucky seed
    chooses none. The test score has no say.

    Returns:
        By label in order of appearance, and by distance.
    """
    groups: dict[tuple[str, int | None], list[Run]] = defaultdict(list)
    for run, label in labels.items():
        if run.score() is not None:
            groups[label, run.distance].append(run)
    order = {label: place for place, label in enumerate(dict.fromkeys(labels.values()))}
    made = [_point(label, distance, runs) for (label, distance), runs in groups.items()]
    return sorted(made, key=lambda point: (order[point.label], point.distance or 0))


def _point(label: str, distance: int | None, runs: Sequence[Run]) -> Point:
    if distance is None:
        return Point(label, None, tuple(runs))
    rates: dict[float | None, list[Run]] = defaultdict(list)
    for run in runs:
        rates[run.rate].append(run)
    most = max(map(len, rates.values()))
    full = {rate: group for rate, group in rates.items() if len(group) == most}
    best = max(full, key=lambda rate: worth(full[rate]))
    return Point(label, distance, tuple(full[best]), tuple(sorted(rate for rate in rates if rate is not None)))


def worth(runs: Sequence[Run]) -> float:
    """Return how well some runs validate, the larger the better; runs without a validation score are worth least."""
    values = [value for run in runs if (value := run.valid) is not None]
    return (1 if runs[0].maximises else -1) * statistics.fmean(values) if values else -math.inf


def reach(found: Sequence[Point]) -> Reach:
    """Find how far one label gets.

    Args:
        found: its points, by distance; each has a distance.
    """
    tried = [(point.distance or 0, point.solved, len(point.runs)) for point in found]
    horizon = max((distance for distance, solved, runs in tried if solved >= SHARE * runs), default=None)
    lower = max((distance for distance, solved, runs in tried if solved == runs), default=None)
    upper = min((distance for distance, solved, _ in tried if not solved and distance > (lower or 0)), default=None)
    distances = [distance for distance, _, _ in tried]
    return Reach(horizon, lower, upper, min(distances), max(distances))
