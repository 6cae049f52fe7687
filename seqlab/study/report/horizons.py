"""Horizons of a report: as a search found them, or as far as the distances that were run say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.io.formatting import relative_path
from seqlab.study.plotting import WIDTH, Style, distance_axis, label_axes, new_figure, styles
from seqlab.study.report.document import Code, Field, FigureBlock, Section, Table, Text, figure_text
from seqlab.study.report.figures import Picture, Point, by_label, reach
from seqlab.study.report.runs import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def searched(task: str, horizons: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Take the rows of one task out of what the searches found, each with its search's folder and figures."""
    found = []
    for folder, horizon in horizons:
        for row in horizon["rows"]:
            if row.get("task") == task:
                trials = [trial for trial in row.get("trials") or () if isinstance(trial, Mapping)]
                tried = [trial["distance"] for trial in trials if isinstance(trial.get("distance"), int)]
                ends = {name: row.get(name) for name in ("horizon", "lower", "upper")}
                known = [value for value in ends.values() if value]
                smallest, largest = min([*tried, *known], default=1), max([*tried, *known], default=1)
                span = {"smallest": smallest, "largest": largest}
                found.append({**row, **ends, "folder": folder, "search": horizon, **span})
    return found


def measured(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Say how far each label gets among the distances that were run."""
    rows = []
    for label, group in by_label(points).items():
        far = reach(group)
        rows.append({"label": label, **asdict(far)})
    return rows


def interval(row: Mapping[str, Any]) -> str:
    """Write a horizon's interval: from the distance that all seeds solve to the one that none solves.

    Args:
        row: ``lower`` and ``upper``; ``None`` where no distance that was tried is such an end.
    """
    low, high = row["lower"], row["upper"]
    if low is None and high is None:
        return "not bounded"
    if low is None:
        return f"< {high:,}"
    return f">= {low:,} (upper bound not reached)" if high is None else f"{low:,} to {high:,}"


def horizon_section(name: str, rows: Sequence[Mapping[str, Any]], *, is_search: bool) -> Section:
    """Put horizons into a table, a figure, and where a search names causes, the interventions with their commands."""
    section = Section("How far", 3)
    if not is_search:
        text = (
            "From the distances that were run: the horizon is the largest at which at least 2/3 of the seeds solve the"
            " task on the validation split, at the learning rate that validation chose there."
        )
        section.blocks += [Text(text), _measured_table(rows)]
    else:
        section.blocks += [Text(_effort(rows)), _searched_table(rows)]
    title = "Horizons of the search" if is_search else "Horizons among the distances that were run"
    section.blocks.append(FigureBlock(reaches(f"{name}_horizon", rows, title)))
    if is_search:
        section.blocks += _causes(rows)
    return section


def _measured_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    fields = tuple((str(row["label"]), figure_text(row["horizon"]) or "none", interval(row)) for row in rows)
    return Table(("", "horizon", "all seeds solve, none solves"), fields)


def _effort(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what the searches cost, and whether they are finished."""
    said = []
    for folder in dict.fromkeys(row["folder"] for row in rows):
        search = next(row["search"] for row in rows if row["folder"] == folder)
        runs, grid = search.get("runs"), search.get("grid_runs")
        part = f"{relative_path(folder)}: {figure_text(runs)} runs"
        if isinstance(runs, int) and isinstance(grid, int) and grid:
            part += f", where the full grid at the same resolution has {grid:,} ({runs / grid:.0%})"
        said.append(part + ("" if search.get("finished", True) else "; the search is not finished"))
    return "; ".join(said) + "."


def _searched_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    head = ("", "horizon", "interval", "learning rate", "parameters", "hidden size", "state size", "limit")
    fields: list[tuple[Field, ...]] = []
    for row in rows:
        limited = {"true": "budget-limited", "false": "not the budget"}
        limit = limited.get(show(row.get("budget_limited")), "budget not checked")
        sizes = (figure_text(row.get(key)) for key in ("learning_rate", "parameters", "hidden_size", "state_size"))
        cells = (str(row["label"]), figure_text(row.get("horizon")) or "none", interval(row), *sizes, limit)
        fields.append(cells)
    return Table(head, tuple(fields))


def _causes(rows: Sequence[Mapping[str, Any]]) -> list[Text | Code]:
    blocks: list[Text | Code] = []
    for row in rows:
        because = row.get("because") or "no reason is given"
        cause = row.get("cause") or "unknown"
        said = "no limit was found" if cause == "none" else f"the likely cause of the limit is {cause}"
        blocks.append(Text(f"{row['label']}: {said}; {because}"))
        intervention = row.get("intervention")
        if isinstance(intervention, Mapping) and intervention.get("command"):
            blocks.append(Code(f"To try: {intervention.get('text')}", (str(intervention["command"]),)))
    return blocks


_ROOM = 0.12
"""Share of the axis between the outermost distance and the edge, for an arrow."""


def reaches(name: str, rows: Sequence[Mapping[str, Any]], title: str) -> Picture:
    """Draw how far each gets: a mark at the horizon, a line from where all seeds solve to where none does.

    Args:
        name: of the files.
        rows: ``label``, ``horizon``, ``lower``, ``upper``, and ``smallest`` and ``largest``, the distances tried.
        title: what the caption begins with.
    """
    figure = new_figure(WIDTH, 1.5 + 0.4 * len(rows))
    axes = figure.add_subplot()
    drawn = styles([str(row["label"]) for row in rows])
    ends = ("horizon", "lower", "upper", "smallest", "largest")
    shown = [int(value) for row in rows for end in ends if (value := row[end])]
    for place, row in enumerate(reversed(rows)):
        _row(axes, place, row, drawn[str(row["label"])])
    distance_axis(axes, shown or [1])
    low, high = min(shown, default=1), max(shown, default=1)
    if axes.get_xscale() == "log":
        room = (high / low) ** _ROOM
        axes.set_xlim(low / room, high * room)
    else:
        room = _ROOM * ((high - low) or 1)
        axes.set_xlim(low - room, high + room)
    label_axes(axes, "distance (steps)", "")
    axes.set_yticks(range(len(rows)), [str(row["label"]) for row in reversed(rows)], parse_math=False)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    caption = (
        f"{title}: the mark is the largest distance at which at least 2/3 of the seeds solve the task; the line goes"
        " from the largest that all solve to the smallest that none solves. An arrow: the end was not reached. A dotted"
        " line: some seeds solve the task, and at no distance 2/3 of them. A cross at the smallest distance: none does."
    )
    return Picture(name, caption, figure)


def _row(axes: "Axes", place: int, row: Mapping[str, Any], style: Style) -> None:
    """Draw a row; one without a horizon has no solid line, which would look like a reach."""
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
