"""Outcome of a search, as the screen and the report show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from seqlab.io.formatting import format_metric
from seqlab.study.predictions import ExampleComparison, compare_examples, read_predictions
from seqlab.study.tune.search import Row
from seqlab.study.tune.study import Trial


@final
@dataclass(frozen=True)
class Outcome:
    """Results of a search.

    Attributes:
        rows: the winner, and the models beside it.
        metric: that was searched.
        counts: number of trials by state.
        minutes: used.
        importances: by title, the importance of each dimension.
        verdict: whether the winner beats the linear baseline on the test split.
        keep: command that trains with the winner's config file.
        page: the report.
        notes: candidates that were not searched.
    """

    rows: Sequence[Row]
    metric: str
    counts: Mapping[str, int]
    minutes: float
    importances: Mapping[str, Mapping[str, float]]
    verdict: str
    keep: str
    page: Path
    notes: Sequence[str]


def test_scores(row: Row) -> dict[str, Any]:
    """Return the test metrics of a model and their 95 % intervals."""
    return {"test": row.record["metrics"]["test"], "intervals": (row.record.get("intervals") or {}).get("test") or {}}


def verdict(rows: Sequence[Row], metric: str, *, maximises: bool) -> str:
    """Return a sentence: whether the winner or the linear baseline has the better test score, and by how much.

    Where the interval of the difference includes 0, it says that the difference may be chance.
    """
    winner = rows[0]
    linear = next((row for row in rows if row.title == "linear baseline"), None)
    ours = winner.record["metrics"]["test"][metric]
    if linear is None:
        if winner.trial.role == "linear":
            return f"the linear baseline wins: test {metric} {format_metric(ours)}"
        return f"test {metric} {format_metric(ours)}; no linear baseline was scored"
    theirs = linear.record["metrics"]["test"][metric]
    scores = f"test {metric} {format_metric(ours)}, linear baseline {format_metric(theirs)}"
    found = _paired(linear, winner, metric)
    if found is not None:
        ends = f"{found.low:+.4f} to {found.high:+.4f}"
        scores += f"; difference by example {found.difference:+.4f}, 95 % interval {ends}"
    if ours == theirs:
        return f"the winner and the linear baseline are equal: {scores}"
    if found is not None and found.low <= 0 <= found.high:
        better = "winner" if (ours > theirs) == maximises else "linear baseline"
        return f"the {better} has the better score, but the difference may be chance: {scores}"
    if (ours > theirs) == maximises:
        return f"the winner beats the linear baseline: {scores}"
    return f"the linear baseline wins on the test split: winner {scores}"


def _paired(first: Row, second: Row, metric: str) -> ExampleComparison | None:
    a, b = (read_predictions(row.folder, "test") for row in (first, second))
    return None if a is None or b is None else compare_examples(a, b, metric)


def settings_of(trial: Trial, trials: Sequence[Trial]) -> str:
    """Return the role of a trial, and its overrides that the default trial (without one: not every trial) has not."""
    default = next((each for each in trials if each.role == "default"), None)
    if default is not None and default is not trial:
        known = set(default.words)
    else:
        known = set.intersection(*(set(each.words) for each in trials))
    words = [] if trial is default else [word for word in trial.words if word not in known]
    return " ".join([*([f"({trial.role})"] if trial.role else []), *words])
