"""Horizon section of a report: horizons of a search, or those among the distances that were run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.io.formatting import relative_path
from seqlab.study.law import bounded_groups, fit_law, read_points
from seqlab.study.plotting import WIDTH, Style, distance_axis, label_axes, new_figure, styles
from seqlab.study.report.document import Code, Field, FigureBlock, Section, Table, Text, format_number
from seqlab.study.report.figures import Picture, Point, by_label, label_rows, measure_horizon
from seqlab.study.report.runs import format_setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
"""``label``, ``horizon``, ``lower``, ``upper``, and ``smallest`` and ``largest``, the distances tried."""


_MOST_DRAWN = 60
"""Rows of a figure, at most."""


def searched(task: str, horizons: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows of one task with fixed lengths in some searches, each with its search's folder and figures."""
    found = []
    for folder, horizon in horizons:
        for row in horizon["rows"]:
            if row.get("task") == task and row.get("protocol", "fixed") == "fixed":
                trials = [trial for trial in row.get("trials") or () if isinstance(trial, Mapping)]
                tried = [trial["distance"] for trial in trials if isinstance(trial.get("distance"), int)]
                ends = {name: row.get(name) for name in ("horizon", "lower", "upper")}
                known = [*tried, *(value for value in ends.values() if value)]
                span = {"smallest": min(known, default=1), "largest": max(known, default=1)}
                found.append({**row, **ends, "folder": folder, "search": horizon, **span})
    return found


def measured(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the horizon of each label among the distances that were run."""
    return [{"label": label, **measure_horizon(group)} for label, group in by_label(points).items()]


def interval(row: Row) -> str:
    """Format a horizon's interval: from the largest distance that all seeds solve to the smallest that none solves.

    Under a curriculum it is the smallest and the largest length that a seed reaches.
    """
    low, high = row["lower"], row["upper"]
    if row.get("protocol") == "curriculum":
        return f"{low or 0:,} to {high:,}" if high else "none"
    if low is None and high is None:
        return "not bounded"
    if low is None:
        return f"< {high:,}"
    return f">= {low:,} (upper bound not reached)" if high is None else f"{low:,} to {high:,}"


def horizon_section(name: str, rows: Sequence[Row], *, is_search: bool) -> Section:
    """Build table and figure, and for a search the causes of the limits with interventions to try."""
    if is_search:
        text, table, title = _effort(rows), _searched_table(rows), "Horizons of the search"
    else:
        text = (
            "Horizon: the largest distance run that at least 2/3 of the seeds solve on the validation split, at the"
            " learning rate that validation chose."
        )
        fields = tuple((str(row["label"]), format_number(row["horizon"]) or "none", interval(row)) for row in rows)
        table = Table(("", "horizon", "interval (all seeds to none)"), fields)
        title = "Horizons among the distances that were run"
    figure = [FigureBlock(draw_horizons(f"{name}_horizon", rows, title))] if len(rows) <= _MOST_DRAWN else []
    found = [*law_blocks(rows), *_causes(rows)] if is_search else []
    return Section("Horizon", 3, [Text(text), table, *figure, *found])


def law_blocks(rows: Sequence[Row]) -> list[Text | Table]:
    """Build the exponents of the scaling law, if the rows differ in numbers such as the hidden size."""
    points = read_points(rows)
    if not points or not points[0].factors:
        return []
    bounded = bounded_groups(points)
    try:
        law = fit_law([point for point in points if point.group in bounded])
    except ValueError as error:
        return [Text(f"No scaling law fits these horizons: {error}.")]
    left_out = sorted({point.group for point in points} - bounded)
    text = (
        f"Scaling law: log horizon = intercept of the cell + sum of exponent x log factor + error of standard deviation"
        f" {law.sigma:.2f}; maximum likelihood of the intervals of {law.count} rows, 95 % intervals of the profile"
        " likelihood."
    )
    if left_out:
        text += f" Left out, as all their horizons lie beyond the same end: {', '.join(left_out)}."
    fields = tuple(
        (name, f"{found.mean:.2f}", f"{found.low:.2f} to {found.high:.2f}") for name, found in law.exponents.items()
    )
    return [Text(text), Table(("factor", "exponent", "95 % interval"), fields)]


def _effort(rows: Sequence[Row]) -> str:
    """Return the cost of each search, and whether it is finished."""
    lines = []
    for folder, search in {row["folder"]: row["search"] for row in rows}.items():
        runs, grid = search.get("runs"), search.get("grid_runs")
        line = f"{relative_path(folder)}: {format_number(runs)} runs"
        if isinstance(runs, int) and isinstance(grid, int) and grid:
            line += f"; the full grid at the same resolution has {grid:,} ({runs / grid:.0%})"
        lines.append(line + ("" if search.get("finished", True) else "; the search is not finished"))
    return "; ".join(lines) + "."


def _searched_table(rows: Sequence[Row]) -> Table:
    head = ("", "horizon", "interval", "learning rate", "parameters", "hidden size", "state size", "budget")
    fields: list[tuple[Field, ...]] = []
    for row in rows:
        budgets = {"true": "limiting", "false": "not limiting"}
        budget = budgets.get(format_setting(row.get("budget_limited")), "not checked")
        sizes = (format_number(row.get(key)) for key in ("learning_rate", "parameters", "hidden_size", "state_size"))
        fields.append((str(row["label"]), format_number(row["horizon"]) or "none", interval(row), *sizes, budget))
    return Table(head, tuple(fields))


def _causes(rows: Sequence[Row]) -> list[Text | Code]:
    return [block for row in rows for block in cause_blocks(row, str(row["label"]))]


def cause_blocks(row: Row, name: str) -> list[Text | Code]:
    """Build the likely cause of a row's limit, and the intervention to try."""
    cause = row.get("cause") or "unknown"
    text = "no limit found" if cause == "none" else f"likely cause of the limit: {cause}"
    blocks: list[Text | Code] = [Text(f"{name}: {text}; {row.get('because') or 'no reason given'}")]
    intervention = row.get("intervention")
    if isinstance(intervention, Mapping) and intervention.get("command"):
        blocks.append(Code(f"To try: {intervention.get('text')}", (str(intervention["command"]),)))
    return blocks


_MARGIN = 0.12
"""Share of the axis between the outermost distance and the edge, for an arrow."""


def draw_horizons(name: str, rows: Sequence[Row], title: str) -> Picture:
    """Draw a mark at each horizon, and a line from where all seeds solve the task to where none does."""
    labels = [str(row["label"]) for row in rows]
    figure = new_figure(WIDTH, 1.5 + 0.4 * len(rows))
    axes = figure.add_subplot()
    lines = styles(labels)
    for place, row in enumerate(reversed(rows)):
        _draw_row(axes, place, row, lines[str(row["label"])])
    ends = ("horizon", "lower", "upper", "smallest", "largest")
    distances = [int(value) for row in rows for end in ends if (value := row[end])] or [1]
    distance_axis(axes, distances)
    low, high = min(distances), max(distances)
    if axes.get_xscale() == "log":
        factor = (high / low) ** _MARGIN
        axes.set_xlim(low / factor, high * factor)
    else:
        margin = _MARGIN * ((high - low) or 1)
        axes.set_xlim(low - margin, high + margin)
    label_axes(axes, "distance (steps)", "")
    label_rows(axes, labels)
    caption = (
        f"{title}. Mark: largest distance that at least 2/3 of the seeds solve. Line: from the largest that all solve"
        " to the smallest that none solves. Arrow: end not reached. Dotted: some seeds solve the task, nowhere 2/3 of"
        " them. Cross at the smallest distance: no seed solves it."
    )
    return Picture(name, caption, figure)


def _draw_row(axes: "Axes", place: int, row: Row, style: Style) -> None:
    """Draw a row; without a horizon it has no solid line, which would look like one."""
    line: dict[str, Any]
    if not row["horizon"] and not row["lower"] and row["upper"] and row["upper"] <= row["smallest"]:
        axes.plot([row["smallest"]], [place], marker="x", color=style.colour, markersize=8, markeredgewidth=2)
        return
    low, high = row["lower"] or row["smallest"], row["upper"] or row["largest"]
    line = {"linewidth": 3, "alpha": 0.45} if row["horizon"] else {"linewidth": 1.2, "linestyle": ":"}
    axes.plot([low, high], [place, place], color=style.colour, solid_capstyle="butt", **line)
    for is_open, at, way in ((row["lower"] is None, low, -1), (row["upper"] is None, high, 1)):
        if is_open:  # longer than half a mark, which a horizon at this end has
            arrow = {"arrowstyle": "<|-", "color": style.colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (at, place), (18 * way, 0), textcoords="offset points", arrowprops=arrow)
    if row["horizon"]:
        axes.plot([row["horizon"]], [place], **{**style.line_options(), "linestyle": "none", "markersize": 8})
