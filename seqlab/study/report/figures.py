"""Figures of scores: aggregation over seeds, score against distance, by setting, and learning curves."""

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
        return mean_validation(self.runs)

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
    best = max(full, key=lambda rate: mean_validation(full[rate]))
    return Point(label, distance, tuple(full[best]), tuple(sorted(rate for rate in rates if rate is not None)))


def mean_validation(runs: Sequence[Run]) -> float:
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


MOST_LINES = 12
"""Labels in one figure; more cannot be told apart."""
_MOST_PANELS = 6
_LOG_FROM = 20
"""Ratio of the largest value to the smallest from which an error's axis is logarithmic."""


@final
@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Attributes:
        name: of its files.
        caption: what is to be seen.
        figure: matplotlib's.
    """

    name: str
    caption: str
    figure: "Figure"


def by_label(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Group points by label, in order."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.label, []).append(point)
    return found


def best_labels(points: Sequence[Point], most: int = MOST_LINES) -> list[str]:
    """Choose the labels that a figure shows, in their order: all of them, or the best by their validation scores."""
    groups = by_label(points)
    if len(groups) <= most:
        return list(groups)
    ranked = sorted(groups, key=lambda label: -float(np.mean([point.worth for point in groups[label]])))
    return [label for label in groups if label in ranked[:most]]


def left_out(points: Sequence[Point], most: int = MOST_LINES) -> str:
    """Say how many labels a figure does not show."""
    more = len(by_label(points)) - most
    return f" The {most} best of {most + more} by validation are drawn." if more > 0 else ""


def against_distance(name: str, points: Sequence[Point], monitor: str) -> Picture:
    """Draw the score against the distance: the mean over the seeds, and from the worst to the best seed as a band."""
    figure = new_figure(WIDTH, 3.9)
    axes = figure.add_subplot()
    groups = by_label(points)
    drawn = styles(best_labels(points))
    for label, style in drawn.items():
        where = [point.distance or 0 for point in groups[label]]
        low, high = ([end(point.scores) for point in groups[label]] for end in (min, max))
        axes.fill_between(where, low, high, color=style.colour, alpha=0.16, linewidth=0)
        axes.plot(where, [point.mean for point in groups[label]], label=label, **style.line_options())
    _bound_lines(axes, points)
    distance_axis(axes, [point.distance or 0 for point in points])
    _score_axis(axes, points)
    label_axes(axes, "distance (steps)", f"test {monitor} ({_better(points)})")
    legend(figure, axes)
    seeds = sorted({len(point.scores) for point in points})
    several = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else f"{seeds[0]} seed{'s' * (seeds[0] > 1)}"
    caption = f"Test {monitor} against distance: mean of {several}, the band from the worst seed to the best."
    return Picture(name, caption + left_out(points), figure)


def _better(points: Sequence[Point]) -> str:
    return "higher is better" if points[0].runs[0].maximises else "lower is better"


def _bound_lines(axes: "Axes", points: Sequence[Point], *, upright: bool = False) -> None:
    """Draw what chance scores, the best there can be, and from where on the task counts as solved.

    Args:
        axes: of the score; horizontal where the lines are to be ``upright``.
        points: of one distance, or of none, where they are.
        upright: whether lines are vertical.
    """
    scale = axes.get_xscale() if upright else axes.get_yscale()
    kinds: tuple[tuple[str, Callable[[Run], float | None], Any], ...] = (
        ("chance", lambda run: run.chance, (0, (5, 3))),
        ("best possible", lambda run: _bound(run, "optimal"), (0, (1, 2))),
        ("solved", lambda run: _bound(run, "solved"), (0, (10, 3))),
    )
    for what, value_of, line in kinds:
        values: dict[int, float] = {}
        for point in points:
            for run in point.runs:
                if (value := value_of(run)) is not None:
                    values[point.distance or 0] = value
        if not values or (scale == "log" and min(values.values()) <= 0):
            continue
        if len(set(values.values())) == 1:
            draw = axes.axvline if upright else axes.axhline
            draw(next(iter(values.values())), color=INK, alpha=0.75, linewidth=1, linestyle=line, label=what)
        else:
            where = sorted(values)
            axes.plot(
                where, [values[at] for at in where], color=INK, alpha=0.75, linewidth=1, linestyle=line, label=what
            )


def _bound(run: Run, name: str) -> float | None:
    value = run.bounds.get(name)
    return float(value) if isinstance(value, int | float) else None


def _score_axis(axes: "Axes", points: Sequence[Point]) -> None:
    scores = [score for point in points for score in point.scores]
    if points[0].runs[0].maximises and min(scores) >= 0 and max(scores) <= 1:
        axes.set_ylim(-0.03, 1.05)
    elif not points[0].runs[0].maximises and min(scores) > 0 and max(scores) / min(scores) >= _LOG_FROM:
        axes.set_yscale("log")


def by_setting(name: str, points: Sequence[Point], monitor: str) -> Picture:
    """Draw the scores of a task without distances: a row for each setting, a mark for each seed, a bar at the mean."""
    labels = best_labels(points, most=30)
    rows = {point.label: point for point in points}
    drawn = styles(labels)
    figure = new_figure(WIDTH, 1.4 + 0.36 * len(labels))
    axes = figure.add_subplot()
    for row, label in enumerate(reversed(labels)):
        style, point = drawn[label], rows[label]
        axes.plot(
            point.scores, [row] * len(point.scores), **{**style.line_options(), "linestyle": "none", "alpha": 0.85}
        )
        axes.plot([point.mean] * 2, [row - 0.3, row + 0.3], color=style.colour, linewidth=2.4)
    chances = [run.chance for point in points for run in point.runs if run.chance is not None]
    scores = [score for point in points for score in point.scores]
    if not points[0].runs[0].maximises and min(scores) > 0 and max([*scores, *chances]) / min(scores) >= _LOG_FROM:
        axes.set_xscale("log")
    _bound_lines(axes, points, upright=True)
    legend(figure, axes)
    label_axes(axes, f"test {monitor} ({_better(points)})", "")
    axes.set_yticks(range(len(labels)), list(reversed(labels)), parse_math=False)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    caption = f"Test {monitor}: a mark for each seed, a bar at their mean."
    return Picture(name, caption + left_out(points, most=30), figure)


def learning(name: str, points: Sequence[Point], curves: Mapping[Run, Sequence[Mapping[str, float]]]) -> Picture | None:
    """Draw the validation score as training goes on: a panel for each of up to six distances, a line for each run."""
    with_curves = [point for point in points if any(curves.get(run) for run in point.runs)]
    if not with_curves:
        return None
    every = sorted({point.distance or 0 for point in with_curves})
    chosen = [every[round(at)] for at in np.linspace(0, len(every) - 1, min(len(every), _MOST_PANELS))]
    columns = min(len(chosen), 2)
    height = -(-len(chosen) // columns)
    figure = new_figure(WIDTH, 0.9 + (3.4 if columns == 1 else 2.3) * height)
    grid = figure.subplots(height, columns, squeeze=False, sharey=True)
    drawn = styles(best_labels(with_curves))
    monitor = with_curves[0].runs[0].monitor
    for place, (axes, distance) in enumerate(zip(grid.flat, chosen, strict=False)):
        here = [point for point in with_curves if (point.distance or 0) == distance and point.label in drawn]
        for point in here:
            _runs_lines(axes, point, curves, drawn[point.label], f"valid/{monitor}")
        if with_curves[0].distance is not None:
            _score_axis(axes, with_curves)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        title = f"{distance:,} steps" if with_curves[0].distance is not None else ""
        below, left = place + columns >= len(chosen), place % columns == 0
        label_axes(axes, "training (batches)" if below else "", f"validation {monitor}" if left else "", title)
    for axes in list(grid.flat)[len(chosen) :]:
        axes.set_visible(False)
    _legend_of(figure, grid.flat[0], drawn)
    picked = f" {len(chosen)} of {len(every)} distances are shown." if len(chosen) < len(every) else ""
    caption = f"Validation {monitor} during training, a line for each seed.{picked}{left_out(with_curves)}"
    return Picture(name, caption, figure)


def _runs_lines(axes: "Axes", point: Point, curves: Mapping[Run, Any], style: Any, column: str) -> None:
    for run in point.runs:
        rows = [row for row in curves.get(run, ()) if column in row]
        if rows:
            thin = {"linewidth": 1.2, "markersize": 3.5, "alpha": 0.9, "markevery": max(1, len(rows) // 8)}
            steps, values = [row["step"] + 1 for row in rows], [row[column] for row in rows]
            axes.plot(steps, values, **{**style.line_options(), **thin})


def _legend_of(figure: "Figure", axes: "Axes", drawn: Mapping[str, Any]) -> None:
    """Put every label into the legend, whichever panel it is in."""
    for label, style in drawn.items():
        axes.plot([], [], label=label, **style.line_options())
    legend(figure, axes)


def cost(name: str, points: Sequence[Point]) -> Picture | None:
    """Draw how fast training is and how long it takes: against the distance, or a row for each setting."""
    timed = [point for point in points if point.cost("tokens_per_second") and point.cost("training_seconds")]
    if not timed:
        return None
    drawn = styles(best_labels(timed))
    groups = by_label(timed)
    has_distances = timed[0].distance is not None
    figure = new_figure(WIDTH, 3.1 if has_distances else 1.5 + 0.36 * len(drawn))
    panels = figure.subplots(1, 2, sharey=not has_distances)
    figure.set_layout_engine("constrained", wspace=0.08)  # so that tick labels at the panels' ends stay apart
    kinds = (("tokens_per_second", "sequence steps per second"), ("training_seconds", "training (seconds)"))
    for axes, (key, what) in zip(panels, kinds, strict=True):
        if has_distances:
            _cost_lines(axes, groups, drawn, key)
            label_axes(axes, "distance (steps)", what)
        else:
            _cost_rows(axes, groups, drawn, key)
            label_axes(axes, what, "")
    if has_distances:
        legend(figure, panels[0])
        return Picture(name, "What training costs: the median over the seeds." + left_out(timed), figure)
    panels[0].set_yticks(range(len(drawn)), list(reversed(drawn)), parse_math=False)
    panels[0].set_ylim(-0.6, len(drawn) - 0.4)
    return Picture(name, "What training costs: a mark for each run." + left_out(timed), figure)


def _cost_lines(axes: "Axes", groups: Mapping[str, list[Point]], drawn: dict[str, Style], key: str) -> None:
    for label, style in drawn.items():
        where = [point.distance or 0 for point in groups[label]]
        axes.plot(where, [point.cost(key) or 0.0 for point in groups[label]], label=label, **style.line_options())
    distance_axis(axes, [point.distance or 0 for label in drawn for point in groups[label]])
    _plain_log(axes, "y")


def _cost_rows(axes: "Axes", groups: Mapping[str, list[Point]], drawn: dict[str, Style], key: str) -> None:
    for row, label in enumerate(reversed(drawn)):
        values = [value for point in groups[label] for run in point.runs if (value := run.cost(key))]
        axes.plot(values, [row] * len(values), **{**drawn[label].line_options(), "linestyle": "none", "alpha": 0.7})
    _plain_log(axes, "x")


def _plain_log(axes: "Axes", which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, over a factor of five at least, with few ticks that are written with k and M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis, of = (axes.xaxis, "x") if which == "x" else (axes.yaxis, "y")
    axes.set(**{f"{of}scale": "log"})
    low, high = axis.get_view_interval()
    if high / low < 5:
        middle = float(np.sqrt(low * high))
        axes.set(**{f"{of}lim": (middle / 5**0.5, middle * 5**0.5)})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 30 else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
