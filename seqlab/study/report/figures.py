"""Aggregation over seeds, and figures of scores, training and cost."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from seqlab.study.plotting import INK, WIDTH, Style, distance_axis, label_axes, legend, new_figure, styles
from seqlab.study.report.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SHARE = 2 / 3
"""Share of the seeds that must solve a distance for it to count as reached."""


@final
@dataclass(frozen=True)
class Point:
    """Runs of one setting (and distance) at the learning rate that validation chose, one per seed."""

    label: str
    distance: int | None
    runs: tuple[Run, ...]
    learning_rates: tuple[float, ...] = ()
    """All that were tried."""

    @property
    def scores(self) -> list[float]:
        """Reported test metric of each run that has one."""
        return [score for run in self.runs if (score := run.test_score()) is not None]

    @property
    def mean(self) -> float:
        """Mean of the test scores."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the test scores; ``None`` of a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def solved(self) -> int:
        """Number of runs that solve the task, by their validation scores."""
        return sum(run.solved for run in self.runs)

    @property
    def rank_score(self) -> float:
        """Mean validation score, negated if smaller is better."""
        return mean_validation(self.runs)

    @property
    def learned(self) -> bool:
        """Whether most runs validate better than the input-independent baseline."""
        return 2 * sum(run.learned for run in self.runs) > len(self.runs)

    def cost(self, name: str) -> float | None:
        """Return the median of an entry of ``cost``."""
        values = [value for run in self.runs if (value := run.cost(name)) is not None]
        return statistics.median(values) if values else None


def aggregate(labels: Mapping[Run, str]) -> list[Point]:
    """Group runs of one task by label and distance, at the best learning rate of each.

    The best one has the best mean validation score among those with the most seeds. Test scores choose nothing.

    Returns:
        Points by label in order of appearance, then by distance.
    """
    groups: dict[tuple[str, int | None], list[Run]] = defaultdict(list)
    for run, label in labels.items():
        if run.test_score() is not None:
            groups[label, run.distance].append(run)
    order = {label: place for place, label in enumerate(dict.fromkeys(labels.values()))}
    points = [_point(label, distance, runs) for (label, distance), runs in groups.items()]
    return sorted(points, key=lambda point: (order[point.label], point.distance or 0))


def _point(label: str, distance: int | None, runs: Sequence[Run]) -> Point:
    if distance is None:
        return Point(label, None, tuple(runs))
    rates: dict[float | None, list[Run]] = defaultdict(list)
    for run in runs:
        rates[run.learning_rate].append(run)
    most = max(map(len, rates.values()))
    complete = {rate: group for rate, group in rates.items() if len(group) == most}
    best = max(complete, key=lambda rate: mean_validation(complete[rate]))
    return Point(label, distance, tuple(complete[best]), tuple(sorted(rate for rate in rates if rate is not None)))


def mean_validation(runs: Sequence[Run]) -> float:
    """Return the mean validation score, negated if smaller is better, and minus infinity without one."""
    values = [value for run in runs if (value := run.validation_score()) is not None]
    return (1 if runs[0].maximises else -1) * statistics.fmean(values) if values else -math.inf


def measure_horizon(points: Sequence[Point]) -> dict[str, Any]:
    """Return the horizon of one label among the distances that were run.

    Returns:
        ``horizon``: largest distance that at least 2/3 of the seeds solve; ``lower``: largest that all solve;
        ``upper``: smallest beyond ``lower`` that none solves; each ``None`` if there is none; ``smallest`` and
        ``largest`` distance that was run.
    """
    tried = [(point.distance or 0, point.solved, len(point.runs)) for point in points]
    horizon = max((distance for distance, solved, runs in tried if solved >= SHARE * runs), default=None)
    lower = max((distance for distance, solved, runs in tried if solved == runs), default=None)
    upper = min((distance for distance, solved, _ in tried if not solved and distance > (lower or 0)), default=None)
    span = {"smallest": min(tried)[0], "largest": max(tried)[0]}
    return {"horizon": horizon, "lower": lower, "upper": upper, **span}


_MAX_LINES = 12
_MAX_ROWS = 30
"""Labels in one figure."""
_MAX_PANELS = 6
_LOG_FROM = 20
"""Ratio of the largest to the smallest error from which their axis is logarithmic."""


@final
@dataclass(frozen=True)
class Picture:
    """Figure of a report with the name of its files and a caption, which is its alternative text, too."""

    name: str
    caption: str
    figure: "Figure"


def by_label(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Group points by label, in order."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.label, []).append(point)
    return found


def best_labels(points: Sequence[Point], most: int = _MAX_LINES) -> list[str]:
    """Return the labels that a figure shows, in order: all, or the best by validation."""
    groups = by_label(points)
    ranked = sorted(groups, key=lambda label: -float(np.mean([point.rank_score for point in groups[label]])))
    return [label for label in groups if label in ranked[:most]]


def _omitted(points: Sequence[Point], most: int = _MAX_LINES) -> str:
    more = len(by_label(points)) - most
    return f" The {most} best of {most + more} by validation are drawn." if more > 0 else ""


def scores_by_distance(name: str, points: Sequence[Point], metric: str) -> Picture:
    """Draw test score against distance: mean over the seeds, and a band from the worst to the best."""
    figure = new_figure(WIDTH, 3.9)
    axes = figure.add_subplot()
    groups = by_label(points)
    for label, style in styles(best_labels(points)).items():
        where = [point.distance or 0 for point in groups[label]]
        low, high = ([end(point.scores) for point in groups[label]] for end in (min, max))
        axes.fill_between(where, low, high, color=style.colour, alpha=0.16, linewidth=0)
        axes.plot(where, [point.mean for point in groups[label]], label=label, **style.line_options())
    _draw_bounds(axes, points)
    distance_axis(axes, [point.distance or 0 for point in points])
    _set_score_axis(axes, points)
    label_axes(axes, "distance (steps)", f"test {metric}{_better(points)}")
    legend(figure, axes)
    seeds = sorted({len(point.scores) for point in points})
    count = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else f"{seeds[0]} seed{'s' * (seeds[0] > 1)}"
    caption = f"Test {metric} against distance: mean of {count}, band from worst to best seed."
    return Picture(name, caption + _omitted(points), figure)


def _better(points: Sequence[Point]) -> str:
    larger = points[0].runs[0].reports_larger
    return "" if larger is None else " (higher is better)" if larger else " (lower is better)"


def _draw_bounds(axes: "Axes", points: Sequence[Point], *, vertical: bool = False) -> None:
    """Draw baseline, best possible score, and the threshold from which the task counts as solved."""
    scale = axes.get_xscale() if vertical else axes.get_yscale()
    kinds: tuple[tuple[str, Callable[[Run], float | None], Any], ...] = (
        ("baseline", lambda run: run.baseline, (0, (5, 3))),
        ("best possible", lambda run: run.bound("optimal"), (0, (1, 2))),
        ("solved", lambda run: run.bound("solved"), (0, (10, 3))),
    )
    for label, value_of, line in kinds:
        values: dict[int, float] = {}
        for point in points:
            for run in point.runs:
                if (value := value_of(run)) is not None:
                    values[point.distance or 0] = value
        if not values or (scale == "log" and min(values.values()) <= 0):
            continue
        options: dict[str, Any] = {"color": INK, "alpha": 0.75, "linewidth": 1, "linestyle": line, "label": label}
        if len(set(values.values())) == 1:
            draw = axes.axvline if vertical else axes.axhline
            draw(next(iter(values.values())), **options)
        else:
            where = sorted(values)
            axes.plot(where, [values[at] for at in where], **options)


def _set_score_axis(axes: "Axes", points: Sequence[Point]) -> None:
    scores, larger = [score for point in points for score in point.scores], points[0].runs[0].reports_larger
    if larger and min(scores) >= 0 and max(scores) <= 1:
        axes.set_ylim(-0.03, 1.05)
    elif larger is False and min(scores) > 0 and max(scores) / min(scores) >= _LOG_FROM:
        axes.set_yscale("log")


def scores_by_setting(name: str, points: Sequence[Point], metric: str) -> Picture:
    """Draw test scores without distances: a row per setting, a mark per seed, a bar at the mean."""
    labels = best_labels(points, _MAX_ROWS)
    rows = {point.label: point for point in points}
    figure = new_figure(WIDTH, 1.4 + 0.36 * len(labels))
    axes = figure.add_subplot()
    for row, (label, style) in enumerate(reversed(styles(labels).items())):
        point = rows[label]
        marks = {**style.line_options(), "linestyle": "none", "alpha": 0.85}
        axes.plot(point.scores, [row] * len(point.scores), **marks)
        axes.plot([point.mean] * 2, [row - 0.3, row + 0.3], color=style.colour, linewidth=2.4)
    baselines = [run.baseline for point in points for run in point.runs if run.baseline is not None]
    scores = [score for point in points for score in point.scores]
    falls = points[0].runs[0].reports_larger is False
    if falls and min(scores) > 0 and max([*scores, *baselines]) / min(scores) >= _LOG_FROM:
        axes.set_xscale("log")
    _draw_bounds(axes, points, vertical=True)
    legend(figure, axes)
    label_axes(axes, f"test {metric}{_better(points)}", "")
    label_rows(axes, labels)
    caption = f"Test {metric}: a mark per seed, a bar at the mean."
    return Picture(name, caption + _omitted(points, _MAX_ROWS), figure)


def label_rows(axes: "Axes", labels: Sequence[str]) -> None:
    """Name the rows of a figure, the first on top."""
    axes.set_yticks(range(len(labels)), list(reversed(labels)), parse_math=False)
    axes.set_ylim(-0.6, len(labels) - 0.4)


def learning_curves(
    name: str, points: Sequence[Point], metrics: Mapping[Run, Sequence[Mapping[str, float]]]
) -> Picture | None:
    """Draw the validation score during training: a panel for each of up to six distances, a line per run."""
    drawn = [point for point in points if any(metrics.get(run) for run in point.runs)]
    if not drawn:
        return None
    every = sorted({point.distance or 0 for point in drawn})
    chosen = [every[round(at)] for at in np.linspace(0, len(every) - 1, min(len(every), _MAX_PANELS))]
    columns = min(len(chosen), 2)
    height = -(-len(chosen) // columns)
    figure = new_figure(WIDTH, 0.9 + (3.4 if columns == 1 else 2.3) * height)
    grid = figure.subplots(height, columns, squeeze=False, sharey=True)
    lines = styles(best_labels(drawn))
    metric, has_distances = drawn[0].runs[0].reported, drawn[0].distance is not None
    for place, (axes, distance) in enumerate(zip(grid.flat, chosen, strict=False)):
        for point in drawn:
            if (point.distance or 0) == distance and point.label in lines:
                _draw_curves(axes, point, metrics, lines[point.label], f"valid/{metric}")
        if has_distances:
            _set_score_axis(axes, drawn)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        title = f"{distance:,} steps" if has_distances else ""
        below, left = place + columns >= len(chosen), place % columns == 0
        label_axes(axes, "training (batches)" if below else "", f"validation {metric}" if left else "", title)
    for axes in grid.flat[len(chosen) :]:
        axes.set_visible(False)
    for label, style in lines.items():  # whichever panel they are in
        grid[0][0].plot([], [], label=label, **style.line_options())
    legend(figure, grid[0][0])
    picked = f" {len(chosen)} of {len(every)} distances are shown." if len(chosen) < len(every) else ""
    caption = f"Validation {metric} during training, a line per seed.{picked}{_omitted(drawn)}"
    return Picture(name, caption, figure)


def _draw_curves(axes: "Axes", point: Point, metrics: Mapping[Run, Any], style: Style, column: str) -> None:
    for run in point.runs:
        rows = [row for row in metrics.get(run, ()) if column in row]
        thin = {"linewidth": 1.2, "markersize": 3.5, "alpha": 0.9, "markevery": max(1, len(rows) // 8)}
        steps, values = [row["step"] + 1 for row in rows], [row[column] for row in rows]
        axes.plot(steps, values, **{**style.line_options(), **thin})


def costs(name: str, points: Sequence[Point]) -> Picture | None:
    """Draw speed and duration of training: against distance, or a row per setting."""
    timed = [point for point in points if point.cost("tokens_per_second") and point.cost("training_seconds")]
    if not timed:
        return None
    drawn, groups = styles(best_labels(timed)), by_label(timed)
    has_distances = timed[0].distance is not None
    figure = new_figure(WIDTH, 3.1 if has_distances else 1.5 + 0.36 * len(drawn))
    panels = figure.subplots(1, 2, sharey=not has_distances)
    figure.set_layout_engine("constrained", wspace=0.08)  # keeps the outermost tick labels of two panels apart
    kinds = (("tokens_per_second", "sequence steps per second"), ("training_seconds", "training (seconds)"))
    for axes, (key, text) in zip(panels, kinds, strict=True):
        if has_distances:
            _draw_cost_lines(axes, groups, drawn, key)
            label_axes(axes, "distance (steps)", text)
        else:
            _draw_cost_rows(axes, groups, drawn, key)
            label_axes(axes, text, "")
    if has_distances:
        legend(figure, panels[0])
    else:
        label_rows(panels[0], list(drawn))
    what = "median over the seeds" if has_distances else "a mark per run"
    return Picture(name, f"Cost of training: {what}.{_omitted(timed)}", figure)


def _draw_cost_lines(axes: "Axes", groups: Mapping[str, list[Point]], drawn: Mapping[str, Style], key: str) -> None:
    for label, style in drawn.items():
        where = [point.distance or 0 for point in groups[label]]
        axes.plot(where, [point.cost(key) or 0.0 for point in groups[label]], label=label, **style.line_options())
    distance_axis(axes, [point.distance or 0 for label in drawn for point in groups[label]])
    _set_log_axis(axes, "y")


def _draw_cost_rows(axes: "Axes", groups: Mapping[str, list[Point]], drawn: dict[str, Style], key: str) -> None:
    for row, (label, style) in enumerate(reversed(drawn.items())):
        values = [value for point in groups[label] for run in point.runs if (value := run.cost(key))]
        axes.plot(values, [row] * len(values), **{**style.line_options(), "linestyle": "none", "alpha": 0.7})
    _set_log_axis(axes, "x")


def _set_log_axis(axes: "Axes", which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, over a factor of five at least, with few ticks written with k and M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    low, high = axis.get_view_interval()
    if high / low < 5:
        middle = float(np.sqrt(low * high))
        axes.set(**{f"{which}lim": (middle / 5**0.5, middle * 5**0.5)})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 30 else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
