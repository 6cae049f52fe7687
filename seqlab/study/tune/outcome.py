"""Outcome of a search, as the screen and the report show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from seqlab.io.formatting import format_metric
from seqlab.runs.intervals import Z
from seqlab.study.predictions import ExampleComparison, compare_examples, read_predictions
from seqlab.study.tune.search import Row
from seqlab.study.tune.study import Trial

BEST_TRIAL = "best trial"
"""Title of the best trial by validation where the linear baseline wins."""


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


def prefer_linear(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return the models with the linear baseline as winner unless the winner is better by a standard error.

    A winner is the best of many by validation, by which a gain below one standard error of the difference by example
    is no reason to prefer the more complex model (the one-standard-error rule of Breiman et al. 1984).

    Args:
        rows: the winner first.
        metric: that was searched.
    """
    winner, *others = rows
    linear = next((row for row in others if row.title == "linear baseline"), None)
    found = None if linear is None else _paired(linear, winner, metric, "valid")
    if linear is None or found is None or abs(found.difference) > (found.high - found.low) / (2 * Z):
        return [*rows]
    others = [row for row in others if row is not linear]
    return [replace(linear, title="winner"), replace(winner, title=BEST_TRIAL), *others]


def verdict(rows: Sequence[Row], metric: str, *, maximises: bool) -> str:
    """Return a sentence: whether the winner or the linear baseline has the better test score, and by how much.

    Where the interval of the difference includes 0, it says that the difference may be chance.
    """
    winner = rows[0]
    linear = next((row for row in rows if row.title == "linear baseline"), None)
    ours = winner.record["metrics"]["test"][metric]
    if linear is None:
        if winner.trial.role == "linear":
            best = next((row for row in rows if row.title == BEST_TRIAL), None)
            if best is None:
                return f"the linear baseline wins: test {metric} {format_metric(ours)}"
            theirs = format_metric(best.record["metrics"]["test"][metric])
            return (
                "the linear baseline wins, as the best trial is not better on validation by a standard error:"
                f" test {metric} {format_metric(ours)}, best trial {theirs}"
            )
        return f"test {metric} {format_metric(ours)}; no linear baseline was scored"
    theirs = linear.record["metrics"]["test"][metric]
    scores = f"test {metric} {format_metric(ours)}, linear baseline {format_metric(theirs)}"
    found = _paired(linear, winner, metric, "test")
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


def _paired(first: Row, second: Row, metric: str, split: str) -> ExampleComparison | None:
    a, b = (read_predictions(row.folder, split) for row in (first, second))
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
