"""Outcome of a comparison of two sets of runs, and the sentences that state it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from seqlab.study.intervals import Interval
from seqlab.study.report.reading import Fault
from seqlab.study.report.runs import Run

FEW = 5
"""Seeds below which the interval leans on differences that are normal."""


@final
@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        name: as it was asked for.
        runs: its finished runs.
        faults: what could not be read.
    """

    name: str
    runs: Sequence[Run]
    faults: Sequence[Fault] = ()


@final
@dataclass(frozen=True)
class Pair:
    """Two runs that differ in what is compared alone.

    Attributes:
        first: of A.
        second: of B.
        shared: the settings that tell this pair from the others.
        values: the validation metric of each.
        tested: the test metric of each; ``None`` where one is absent or no number.
    """

    first: Run
    second: Run
    shared: Mapping[str, str]
    values: tuple[float, float]
    tested: tuple[float, float] | None = None

    @property
    def difference(self) -> float:
        """B less A, in validation."""
        return self.values[1] - self.values[0]

    @property
    def test_difference(self) -> float | None:
        """B less A, on the test split."""
        return None if self.tested is None else self.tested[1] - self.tested[0]


@final
@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        sides: A and B.
        metric: that is compared.
        maximises: whether it is better when larger; ``None`` where that is not known.
        differ: the settings in which A and B differ as a whole: ``{"cell.name": ("lstm", "gru")}``.
        pairs: by their settings.
        unpaired: runs without a partner, and why, a line each.
        interval: of the mean validation difference, B less A, over seeds.
        test_interval: the same on the test split, which decides nothing; ``None`` where a pair lacks a test score.
    """

    sides: tuple[Side, Side]
    metric: str
    maximises: bool | None
    differ: Mapping[str, tuple[str, str]]
    pairs: Sequence[Pair]
    unpaired: Sequence[str]
    interval: Interval
    test_interval: Interval | None = None

    def verdict(self) -> str:
        """Say in a sentence which validates better, or that this cannot be told."""
        a, b = (side.name for side in self.sides)
        found, what = self.interval, f"validation {self.metric}"
        if found.low is None or found.high is None:
            said = f"B - A is {found.mean:+.4g} with the one seed there is"
            return f"{what}: {said}; run more seeds to tell which is better."
        seeds = f"{found.count} seeds" + (f" of {len(self.pairs)} pairs" if len(self.pairs) > found.count else "")
        few = "; so few seeds lean on differences that are normal" if found.count < FEW else ""
        if found.low == found.high == 0:
            return f"{what}: {a} and {b} score the same in every pair ({seeds})."
        ends = f"{_ends(found)}, {seeds}"
        if found.low <= 0 <= found.high:
            return f"{what}: {a} and {b} cannot be told apart ({ends}){few}."
        gain = -found.mean if self.maximises is False else found.mean
        better, worse = (b, a) if gain > 0 else (a, b)
        how = "higher" if self.maximises is None else "better"
        return f"{what}: {better} is {how} than {worse} by {abs(found.mean):.4g} ({ends}){few}."

    def tested(self) -> str | None:
        """Say how the two differ on the test split, on which the verdict does not depend."""
        if self.test_interval is None:
            return None
        return f"test {self.metric}, which decides nothing: {_ends(self.test_interval)}"

    def idle(self) -> list[str]:
        """Name the sides whose runs learned nothing: a gain over them is a gain over the input-independent baseline."""
        found = []
        for place, side in zip("AB", self.sides, strict=True):
            runs = [pair.first if place == "A" else pair.second for pair in self.pairs]
            if none := sum(not run.learned for run in runs):
                found.append(
                    f"{side.name}: {none} of {len(runs)} runs are no better than the input-independent baseline"
                )
        return found


def _ends(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"B - A is {found.mean:+.4g}"
    return f"B - A is {found.mean:+.4g}, 95 % interval {found.low:+.4g} to {found.high:+.4g}"
