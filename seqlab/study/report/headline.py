"""Headline of a task's section: how far each gets, or which validates best and what that scores on the test split."""

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from seqlab.study.report import horizons
from seqlab.study.report.blocks import figure_text, with_spread
from seqlab.study.report.points import Point

_MOST = 3
"""Settings that a headline names where none is to be chosen."""


def answer(title: str, points: Sequence[Point], searched: Sequence[Mapping[str, Any]]) -> str:
    """Answer the question of a section in a sentence; validation ranks, and test scores are only shown.

    Args:
        title: of the section.
        points: its runs, put together.
        searched: rows of the horizon searches among them.
    """
    if points[0].distance is None:
        return f"On {title}, {_scores(points)}"
    rows = searched or horizons.measured(points)
    ranked = sorted(rows, key=lambda row: (-(row["horizon"] or 0), -(row["upper"] or row["largest"] + 1)))
    said = [f"{row['label']} reaches {_far(row)}" for row in ranked]
    each = " each" if len(points) > 1 else ""
    few = f" One seed{each}: run more seeds." if {len(point.runs) for point in points} == {1} else ""
    return f"On {title}, {'; '.join(said)}.{few}"


def _far(row: Mapping[str, Any]) -> str:
    interval = horizons.interval(row).replace(" (", ", ").removesuffix(")")
    if not row["horizon"]:
        return f"no distance that was tried (interval {interval})"
    steps = f"{row['horizon']:,} step{'s' if row['horizon'] > 1 else ''}"
    limited = ", budget-limited" if row.get("budget_limited") else ""
    return f"{steps} (interval {interval}{limited})"


def _scores(points: Sequence[Point]) -> str:
    """Say which setting validates best, unless there is one alone, or no other learned anything."""
    run = points[0].runs[0]
    monitor, baseline = run.monitor, "the input-independent baseline"
    scores = f"{baseline} scores {figure_text(run.chance)}" if run.chance is not None else "no baseline is known"
    baseline += "" if run.chance is None else f" ({figure_text(run.chance)})"
    ranked = sorted(points, key=lambda point: -point.worth)
    learned = [point for point in ranked if point.learned]
    best, *others = ranked
    if not learned:
        what = f"{best.label} is no better than" if not others else "no setting is better than"
        noise = " by more than the noise of the validation split" if _is_above(best) else ""
        return f"{what} {baseline}{noise}; test {monitor}: {_listed(ranked)}."
    if not others:
        return f"{best.label} has a test {monitor} of {_test(best)}; {scores}."
    if len(learned) == 1:
        return f"only {learned[0].label} is better than {baseline}; test {monitor}: {_listed([*learned, *others])}."
    single = all(len(point.runs) == 1 for point in ranked)
    what = "the highest" if run.maximises else "the lowest"
    text = (
        f"{best.label} has {what if single else 'the best'} validation {monitor}; its test {monitor} is {_test(best)}"
    )
    text += f"; next is {others[0].label} with {_test(others[0])}"
    if single:
        text += "; one run each: run more seeds"
    elif _is_close(best, others[0]):
        text += ", closer in validation than one standard deviation over the seeds"
    if idle := [point.label for point in ranked if not point.learned]:
        return f"{text}; no better than {baseline}: {', '.join(idle)}."
    return f"{text}; {scores}."


def _is_above(point: Point) -> bool:
    """Return whether the mean validation score is better than the baseline, if only by chance."""
    run = point.runs[0]
    return run.chance is not None and point.worth > (run.chance if run.maximises else -run.chance)


def _listed(points: Sequence[Point]) -> str:
    shown = list({point.label: f"{point.label} {_test(point)}" for point in points}.values())
    more = f"; {len(shown) - _MOST:,} more" if len(shown) > _MOST else ""
    return "; ".join(shown[:_MOST]) + more


def _test(point: Point) -> str:
    return f"{with_spread(point.mean, point.spread)} ({len(point.scores)} seed{'s' if len(point.scores) > 1 else ''})"


def _is_close(best: Point, other: Point) -> bool:
    found = [[value for run in point.runs if (value := run.valid) is not None] for point in (best, other)]
    spread = max(stdev(values) if len(values) > 1 else 0.0 for values in found)
    return abs(best.worth - other.worth) <= spread
