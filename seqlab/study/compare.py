"""Comparison of two sets of runs, paired by seed and settings."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.study.intervals import Interval, student
from seqlab.study.report.reading import Fault, collect
from seqlab.study.report.runs import REPLICATES, Run, is_guarded, labels, show

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


def sides_of(first: str, second: str, within: Path | None) -> tuple[Side, Side]:
    """Read the two that are compared.

    Args:
        first: a folder, or a label of ``within``.
        second: the same.
        within: a sweep's folder, of which the two are labels.

    Raises:
        UserError: a folder holds no run that is done, or there is no such label.
    """
    if within is None:
        a, b = (_side(name, Path(name)) for name in (first, second))
        return a, b
    found = collect([within])
    named = {task: labels([run for run in found.runs if run.task == task]) for task in {run.task for run in found.runs}}
    by_label: dict[str, list[Run]] = {}
    for each in named.values():
        for run, label in each.items():
            by_label.setdefault(label, []).append(run)
    for name in (first, second):
        if name not in by_label:
            there = ", ".join(repr(label) for label in by_label) or "none"
            raise UserError(f"{relative_path(within)} has no label {name!r}; there are {there}")
    return Side(first, by_label[first], found.faults), Side(second, by_label[second])


def _side(name: str, folder: Path) -> Side:
    found = collect([folder])
    if not found.runs:
        cause = "; ".join(f"{fault.kind}: {fault.what}" for fault in found.faults[:1])
        raise UserError(f"{name} has no run that is done ({cause}); there is nothing to compare")
    return Side(name, found.runs, found.faults)


def compare(first: Side, second: Side, metric: str | None = None, *, within_one: bool = False) -> Comparison:
    """Pair the runs of two sides and compare them.

    Args:
        first: A.
        second: B.
        metric: to compare; the monitored one if none is named.
        within_one: whether both come from one sweep, which then may vary the task's options and the budget on purpose.

    Raises:
        UserError: they are not comparable, no two runs can be paired, or the metric is unknown.
    """
    differ = _differ(first, second, guard=not within_one)
    chosen = metric or first.runs[0].monitor
    pairs, unpaired = _pair(first, second, differ, chosen)
    if not pairs:
        raise UserError(_no_pair(first, second, chosen, unpaired))
    bounds = pairs[0].first.range(chosen).of_differences
    interval = bounds.cut(_over_seeds([(pair, pair.difference) for pair in pairs]))
    tests = [(pair, value) for pair in pairs if (value := pair.test_difference) is not None]
    tested = bounds.cut(_over_seeds(tests)) if len(tests) == len(pairs) else None
    maximises = pairs[0].first.maximises if chosen == first.runs[0].monitor else _KNOWN.get(chosen)
    return Comparison((first, second), chosen, maximises, differ, pairs, unpaired, interval, tested)


def _over_seeds(differences: Sequence[tuple[Pair, float]]) -> Interval:
    """Average the differences of each seed, and give the interval of their mean."""
    by_seed: dict[tuple[str, ...], list[float]] = {}
    for pair, difference in differences:
        key = tuple(show(pair.first.settings.get(name)) for name in REPLICATES)
        by_seed.setdefault(key, []).append(difference)
    return student([statistics.fmean(found) for found in by_seed.values()])


_KNOWN = {"loss": False}
"""Of a metric that is not the monitored one only this is known."""


def _differ(first: Side, second: Side, *, guard: bool) -> dict[str, tuple[str, str]]:
    """Find the settings in which the two differ as a whole: one value on each side, and not the same.

    Raises:
        UserError: one of them makes the two incomparable.
    """
    tasks = [sorted({run.task for run in side.runs}) for side in (first, second)]
    if tasks[0] != tasks[1] or len(tasks[0]) > 1:
        both = " and ".join(", ".join(names) for names in tasks)
        raise UserError(f"{first.name} and {second.name} are of the tasks {both}; compare runs of one task")
    monitors = {run.monitor for side in (first, second) for run in side.runs}
    if len(monitors) > 1:
        raise UserError(
            f"{first.name} and {second.name} are not comparable: they monitor {' and '.join(sorted(monitors))}"
        )
    found: dict[str, tuple[str, str]] = {}
    for key in dict.fromkeys(key for side in (first, second) for run in side.runs for key in run.settings):
        a, b = ({show(run.settings[key]) for run in side.runs if key in run.settings} for side in (first, second))
        if len(a) == len(b) == 1 and a != b and key not in REPLICATES:
            found[key] = (a.pop(), b.pop())
    distance = first.runs[0].distance is not None
    wrong = [key for key in found if key == "task.sequence_length" or (guard and is_guarded(key, distance=distance))]
    if wrong:
        values = "; ".join(f"{key} is {found[key][0]} and {found[key][1]}" for key in wrong)
        raise UserError(f"{first.name} and {second.name} are not comparable: {values}")
    return found


def _pair(
    first: Side, second: Side, differ: Mapping[str, tuple[str, str]], metric: str
) -> tuple[list[Pair], list[str]]:
    keys = {key for side in (first, second) for run in side.runs for key in run.settings} - set(differ)
    common = sorted(
        key for key in keys if all(any(key in run.settings for run in side.runs) for side in (first, second))
    )
    tables = [_by_settings(side, common) for side in (first, second)]
    varied = [key for at, key in enumerate(common) if len({found[at] for table in tables for found in table}) > 1]
    pairs: list[Pair] = []
    unpaired: list[str] = []
    for found, run in tables[0].items():
        other = tables[1].get(found)
        if other is None:
            unpaired.append(_alone(run, varied, second))
            continue
        values = _both(run.validation(metric), other.validation(metric))
        if values is None:
            who = run if run.validation(metric) is None else other
            unpaired.append(f"{relative_path(who.folder)}: its validation {metric} is absent or no number")
            continue
        shared = {key: found[common.index(key)] for key in varied}
        pairs.append(Pair(run, other, shared, values, _both(run.score(metric), other.score(metric))))
    unpaired += [_alone(run, varied, first) for found, run in tables[1].items() if found not in tables[0]]
    return pairs, unpaired


def _both(first: float | None, second: float | None) -> tuple[float, float] | None:
    return None if first is None or second is None else (first, second)


def _by_settings(side: Side, keys: Sequence[str]) -> dict[tuple[str, ...], Run]:
    """Index runs by the settings that both sides have.

    Raises:
        UserError: two runs of a side cannot be told apart by them.
    """
    table: dict[tuple[str, ...], Run] = {}
    for run in side.runs:
        found = tuple(show(run.settings.get(key)) for key in keys)
        if found in table:
            own = [key for key in run.settings if run.settings[key] != table[found].settings.get(key)]
            raise UserError(
                f"{side.name} has several runs for one of the other side, that differ in {', '.join(own)};"
                f" compare two labels of the sweep, with --in {side.name}"
            )
        table[found] = run
    return table


def _alone(run: Run, varied: Sequence[str], other: Side) -> str:
    settings = " ".join(f"{key}={show(run.settings.get(key))}" for key in varied)
    return f"{relative_path(run.folder)} ({settings}): {other.name} has no run of these settings"


def _no_pair(first: Side, second: Side, metric: str, unpaired: Sequence[str]) -> str:
    there = sorted({name for run in first.runs for name in run.record["metrics"].get("valid") or ()})
    if metric not in [*there, first.runs[0].monitor]:
        return f"--metric {metric}: there is no such metric; there are {', '.join(there)}"
    return f"no run of {first.name} has a partner in {second.name}: {unpaired[0]}"
