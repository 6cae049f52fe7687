"""Table of test scores: mean, interval and number of seeds of each row, and which row is clearly the best."""

from collections.abc import Sequence
from statistics import fmean, stdev

from seqlab.study.intervals import Interval, Range, replicate_interval
from seqlab.study.report.document import Commands, Field, Table, format_mean, format_number
from seqlab.study.report.figures import Point


def score_table(points: Sequence[Point]) -> Table:
    """Build the table; in print it has the row, distance, mean, interval and number of seeds."""
    metric, has_distances = points[0].runs[0].reported, points[0].distance is not None
    judged = any(run.bounds.get("solved") is not None for point in points for run in point.runs)
    rows: list[dict[str, Field]] = []
    for point in points:
        run = point.runs[0]
        row: dict[str, Field] = {"": point.label, "distance": format_number(point.distance)}
        row[f"test {metric}"] = format_mean(point.mean, point.deviation)
        row |= {"95 % interval": _format(test_interval(point)), "seeds": str(len(point.runs))}
        row["solved (validation)"] = str(point.solved)
        row |= {"learning rate": format_number(run.learning_rate), "baseline": format_number(run.baseline)}
        row["linear baseline"] = _linear(point) if metric == run.monitor else ""
        row["best possible"] = format_number(run.bound("optimal")) or "not known"
        row["commands"] = Commands(tuple(each.command for each in point.runs))
        rows.append(row)
    dropped = set() if has_distances else {"distance", "learning rate", "best possible"}
    dropped |= set() if judged else {"solved (validation)"}
    dropped |= {"best possible"} if metric != points[0].runs[0].monitor else set()
    dropped |= set() if any(row["linear baseline"] for row in rows) else {"linear baseline"}
    head = tuple(name for name in rows[0] if name not in dropped)
    best = clearly_best(points)
    return Table(
        head,
        tuple(tuple(row[name] for name in head) for row in rows),
        bold=frozenset(place for place, point in enumerate(points) if point in best),
        in_print=tuple(name for name in [*rows[0]][:5] if name in head),
    )


def _linear(point: Point) -> str:
    """Format the linear baseline's mean test score over the splits of the runs; empty where one has none."""
    scores = [run.linear for run in point.runs if run.linear is not None]
    if len(scores) < len(point.runs):
        return ""
    return format_mean(fmean(scores), stdev(scores) if len(set(scores)) > 1 else None)


def test_interval(point: Point) -> Interval:
    """Return Student's interval for the mean, clipped to the metric's range and the best possible score."""
    run = point.runs[0]
    pairs = ((str(each.settings.get("task.fold")), each.test_score()) for each in point.runs)
    found = replicate_interval([(fold, score) for fold, score in pairs if score is not None])
    found, best = run.metric_range().clip(found), run.bound("optimal")
    return found if best is None else (Range(high=best) if run.maximises else Range(low=best)).clip(found)


def _format(found: Interval) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"{format_number(found.low, 3)} to {format_number(found.high, 3)}"


def clearly_best(points: Sequence[Point]) -> list[Point]:
    """Return, of each distance, the point whose interval lies beyond those of all others; of one point none.

    A point with a single seed has no interval, so that none beside it is clearly the best; nor is one that learned
    nothing, nor any under a metric of unknown direction.
    """
    found = []
    for distance in dict.fromkeys(point.distance for point in points):
        here = [point for point in points if point.distance == distance]
        larger = here[0].runs[0].reports_larger
        if len(here) < 2 or larger is None:
            continue
        ends: list[tuple[float, float]] = []
        for point in here:
            interval = test_interval(point)
            if interval.low is None or interval.high is None:
                break
            ends.append((interval.low, interval.high) if larger else (-interval.high, -interval.low))
        else:
            place = max(range(len(here)), key=lambda at: ends[at][0])
            others = [high for at, (_, high) in enumerate(ends) if at != place]
            found += [here[place]] if here[place].learned and ends[place][0] > max(others) else []
    return found
