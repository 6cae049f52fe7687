"""Comparison of two sets of runs, paired by seed and settings."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.study.intervals import Interval, replicate_interval
from seqlab.study.predictions import ExampleComparison, compare_examples, read_predictions
from seqlab.study.report.reading import Fault, collect
from seqlab.study.report.runs import DISTANCE, REPLICATES, Run, format_setting, is_controlled, label_runs

FEW = 5
"""Seeds below which the interval relies on normally distributed differences."""


@final
@dataclass(frozen=True)
class Side:
    """One of the two sets, by the name that the user gave."""

    name: str
    runs: Sequence[Run]
    faults: Sequence[Fault] = ()


@final
@dataclass(frozen=True)
class Pair:
    """A run of each set, with equal settings apart from those compared."""

    runs: tuple[Run, Run]
    shared: Mapping[str, str]
    """Settings that tell this pair from the others."""
    values: tuple[float, float]
    """Validation metric of each."""
    test_values: tuple[float, float] | None = None
    """Test metric of each; ``None`` if one is absent or not finite."""

    @property
    def difference(self) -> float:
        """B - A in validation."""
        return self.values[1] - self.values[0]


@final
@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        sides: A and B.
        metric: that is compared.
        maximises: whether it is better when larger; ``None`` if unknown.
        differences: settings in which A and B differ as a whole: ``{"cell.name": ("lstm", "gru")}``.
        pairs: by their settings.
        unpaired: runs without a partner, with the reason, a line each.
        interval: of the mean validation difference B - A over seeds.
        test_interval: the same on the test split; ``None`` if a pair lacks a test score.
        by_example: of a single pair: its comparison over validation examples; ``None`` where there is none.
    """

    sides: tuple[Side, Side]
    metric: str
    maximises: bool | None
    differences: Mapping[str, tuple[str, str]]
    pairs: Sequence[Pair]
    unpaired: Sequence[str]
    interval: Interval
    test_interval: Interval | None = None
    by_example: ExampleComparison | None = None

    def verdict(self) -> str:
        """Return a sentence on which set validates better, or that they cannot be told apart."""
        a, b = (side.name for side in self.sides)
        found, what = self.interval, f"validation {self.metric}"
        if not any(run.learned for pair in self.pairs for run in pair.runs):
            return f"{what}: neither {a} nor {b} is better than the input-independent baseline ({_format(found)})."
        if self.by_example is not None:
            return self.by_example.describe(self.metric, a, b, maximises=self.maximises)
        if found.low is None or found.high is None:
            return f"{what}: {_format(found)} with a single seed; run more seeds to tell which is better."
        seeds = f"{found.count} seeds" + (f" of {len(self.pairs)} pairs" if len(self.pairs) > found.count else "")
        few = f"; fewer than {FEW} seeds: assumes normal differences" if found.count < FEW else ""
        if found.low == found.high == 0:
            return f"{what}: {a} and {b} score the same in every pair ({seeds})."
        ends = f"{_format(found)}, {seeds}"
        if found.low <= 0 <= found.high:
            return f"{what}: {a} and {b} cannot be told apart ({ends}){few}."
        gain = -found.mean if self.maximises is False else found.mean
        better, worse = (b, a) if gain > 0 else (a, b)
        how = "higher" if self.maximises is None else "better"
        return f"{what}: {better} is {how} than {worse} by {abs(found.mean):.4g} ({ends}){few}."

    def test_summary(self) -> str | None:
        """Return a line on the difference on the test split, on which the verdict does not depend."""
        if self.test_interval is None:
            return None
        return f"test {self.metric} (not used for the verdict): {_format(self.test_interval)}"

    def below_baseline(self) -> list[str]:
        """Return a line per set with runs that are no better than the input-independent baseline."""
        lines = []
        for place, side in enumerate(self.sides):
            runs = [pair.runs[place] for pair in self.pairs]
            if count := sum(not run.learned for run in runs):
                what = "no better than the input-independent baseline"
                lines.append(f"{side.name}: {count} of {len(runs)} runs are {what}")
        return lines


def _format(found: Interval) -> str:
    text = f"B - A is {found.mean:+.4g}"
    if found.low is None or found.high is None:
        return text
    return f"{text}, 95 % interval {found.low:+.4g} to {found.high:+.4g}"


def read_sides(first: str, second: str, within: Path | None) -> tuple[Side, Side]:
    """Read the two sets."""
    if within is None:
        a, b = (_read_side(name) for name in (first, second))
        return a, b
    found = collect([within])
    by_label: dict[str, list[Run]] = {}
    for task in dict.fromkeys(run.task for run in found.runs):
        for run, label in label_runs([run for run in found.runs if run.task == task]).items():
            by_label.setdefault(label, []).append(run)
    for name in (first, second):
        if name not in by_label:
            labels = ", ".join(map(repr, by_label)) or "none"
            raise UserError(f"{relative_path(within)} has no label {name!r}; it has {labels}")
    return Side(first, by_label[first], found.faults), Side(second, by_label[second])


def _read_side(name: str) -> Side:
    found = collect([Path(name)])
    if not found.runs:
        cause = "; ".join(f"{fault.kind}: {fault.cause}" for fault in found.faults[:1])
        raise UserError(f"{name} has no finished run ({cause})")
    return Side(name, found.runs, found.faults)


def compare(first: Side, second: Side, metric: str | None = None, *, within_one: bool = False) -> Comparison:
    """Pair the runs of two sets and compare a metric (the monitored one).

    ``within_one`` says that both are of one sweep, which may vary task options and budget on purpose.
    """
    differences = _differences(first, second, within_one=within_one)
    run = first.runs[0]
    chosen = metric or run.monitor
    pairs, unpaired = _pair(first, second, differences, chosen)
    if not pairs:
        raise UserError(_no_pair(first, second, chosen, unpaired))
    bounds = run.metric_range(chosen).of_differences()
    interval = bounds.clip(_over_seeds([(pair, pair.difference) for pair in pairs]))
    tests = [(pair, pair.test_values[1] - pair.test_values[0]) for pair in pairs if pair.test_values is not None]
    tested = bounds.clip(_over_seeds(tests)) if len(tests) == len(pairs) else None
    maximises = run.maximises if chosen == run.monitor else {"loss": False}.get(chosen)
    examples = _by_example(pairs[0], chosen) if len(pairs) == 1 else None
    return Comparison((first, second), chosen, maximises, differences, pairs, unpaired, interval, tested, examples)


def _by_example(pair: Pair, metric: str) -> ExampleComparison | None:
    a, b = (read_predictions(run.folder, "valid") for run in pair.runs)
    return None if a is None or b is None else compare_examples(a, b, metric)


def _over_seeds(differences: Sequence[tuple[Pair, float]]) -> Interval:
    """Average the differences of each seed; return the interval of their mean."""
    by_seed: dict[tuple[str, ...], list[float]] = {}
    for pair, difference in differences:
        key = tuple(format_setting(pair.runs[0].settings.get(name)) for name in REPLICATES)
        by_seed.setdefault(key, []).append(difference)
    fold = REPLICATES.index("task.fold")
    return replicate_interval([(key[fold], statistics.fmean(values)) for key, values in by_seed.items()])


def _differences(first: Side, second: Side, *, within_one: bool) -> dict[str, tuple[str, str]]:
    """Find the settings that have one value in each set, and not the same."""
    both, runs = f"{first.name} and {second.name}", [*first.runs, *second.runs]
    if len(tasks := sorted({run.task for run in runs})) > 1:
        raise UserError(f"{both} have runs of the tasks {' and '.join(tasks)}; compare runs of one task")
    if len(monitors := sorted({run.monitor for run in runs})) > 1:
        raise UserError(f"{both} are not comparable: they monitor {' and '.join(monitors)}")
    found: dict[str, tuple[str, str]] = {}
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        a, b = ({format_setting(run.settings[key]) for run in side.runs if key in run.settings}
                for side in (first, second))  # fmt: skip
        if len(a) == len(b) == 1 and a != b and key not in REPLICATES:
            found[key] = (a.pop(), b.pop())
    has_distance = runs[0].distance is not None
    if wrong := [
        f"{key} is {' and '.join(values)}"
        for key, values in found.items()
        if key == DISTANCE or (not within_one and is_controlled(key, distance=has_distance))
    ]:
        raise UserError(f"{both} are not comparable: {'; '.join(wrong)}")
    return found


def _pair(
    first: Side, second: Side, differences: Mapping[str, tuple[str, str]], metric: str
) -> tuple[list[Pair], list[str]]:
    in_each = [{key for run in side.runs for key in run.settings} for side in (first, second)]
    common = sorted((in_each[0] & in_each[1]) - set(differences))
    a, b = (_by_settings(side, common) for side in (first, second))
    varied = [place for place in range(len(common)) if len({settings[place] for settings in (*a, *b)}) > 1]
    pairs: list[Pair] = []
    unpaired: list[str] = []
    for settings in dict.fromkeys((*a, *b)):
        one, other = a.get(settings), b.get(settings)
        shared = {common[place]: settings[place] for place in varied}
        if one is None or other is None:
            run, absent = (one, second) if other is None else (other, first)
            assert run is not None
            text = " ".join(f"{key}={value}" for key, value in shared.items())
            unpaired.append(f"{relative_path(run.folder)} ({text}): {absent.name} has no run with these settings")
        elif (values := _both(one.validation_score(metric), other.validation_score(metric))) is None:
            run = one if one.validation_score(metric) is None else other
            unpaired.append(f"{relative_path(run.folder)}: validation {metric} is absent or not finite")
        else:
            pairs.append(Pair((one, other), shared, values, _both(one.test_score(metric), other.test_score(metric))))
    return pairs, unpaired


def _both(first: float | None, second: float | None) -> tuple[float, float] | None:
    return None if first is None or second is None else (first, second)


def _by_settings(side: Side, keys: Sequence[str]) -> dict[tuple[str, ...], Run]:
    """Index runs by the settings that both sets have."""
    table: dict[tuple[str, ...], Run] = {}
    for run in side.runs:
        settings = tuple(format_setting(run.settings.get(key)) for key in keys)
        if settings in table:
            own = [key for key in run.settings if run.settings[key] != table[settings].settings.get(key)]
            raise UserError(
                f"{side.name} has several runs for one of the other side, which differ in {', '.join(own)};"
                f" compare two labels of the sweep, with --in {side.name}"
            )
        table[settings] = run
    return table


def _no_pair(first: Side, second: Side, metric: str, unpaired: Sequence[str]) -> str:
    known = sorted({name for run in first.runs for name in run.record["metrics"].get("valid") or ()})
    if metric not in [*known, first.runs[0].monitor]:
        return f"--metric {metric}: there is no such metric; there are {', '.join(known)}"
    return f"no run of {first.name} has a partner in {second.name}: {unpaired[0]}"
