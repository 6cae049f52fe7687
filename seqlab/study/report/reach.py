"""Section of a report on horizons by training protocol: fixed lengths beside lengths that grow."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.study.plotting import COLOURS, GREY, INK, WIDTH, label_axes, legend, new_figure, points
from seqlab.study.report.document import Field, FigureBlock, Section, Table, Text, format_number
from seqlab.study.report.figures import Picture, label_rows
from seqlab.study.report.horizons import Row, cause_blocks, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "fixed": {"label": "trained at one length", "color": GREY},
    "curriculum": {"label": "trained on lengths that grow", "color": COLOURS[0]},
}
_BAR = 0.38
"""Height of a bar; rows are 1 apart."""

COLUMNS = (
    "task",
    "label",
    "protocol",
    "horizon",
    "lower",
    "upper",
    "generalises",
    "steps",
    "seconds",
    "learning_rate",
    "parameters",
    "cause",
    "because",
)
"""Columns of ``horizons.csv``: entries of ``horizon.json``."""


def reach_section(horizons: Sequence[tuple[Path, Mapping[str, Any]]]) -> Section | None:
    """Build figure, table and causes of searches with a curriculum; ``None`` without one."""
    rows = [row for _, horizon in horizons for row in horizon["rows"]]
    if not any(protocol_of(row) == "curriculum" for row in rows):
        return None
    section = Section("How far each model reaches")
    section.blocks += [Text(sentence, is_result=True) for sentence in _sentences(rows)]
    section.blocks += [FigureBlock(draw_reach("reach", rows)), _table(rows), Text(_EXPLANATION)]
    for row in rows:
        if protocol_of(row) == "curriculum":
            section.blocks += cause_blocks(row, f"{row['task']}, {row['label']}, curriculum")
    return section


_EXPLANATION = (
    "Horizon: the largest length that at least 2/3 of the seeds solve on validation, at the learning rate that"
    " validation chose. Interval: at one length, from the largest that all seeds solve to the smallest that none does;"
    " under a curriculum, the smallest and the largest that a seed reaches. Still solves: the longest tested multiple"
    " of its own length up to which the trained model solves the task on test, in 2/3 of the seeds. Steps and seconds:"
    " median of the runs that reach the horizon, until they first did."
)


def protocol_of(row: Row) -> str:
    """Return the protocol of a row; searches of older versions have fixed lengths."""
    return str(row.get("protocol", "fixed"))


def _by_task(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Row]]]:
    """Group rows by task, label and protocol."""
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        found.setdefault(str(row["task"]), {}).setdefault(str(row["label"]), {})[protocol_of(row)] = row
    return found


def _sentences(rows: Sequence[Row]) -> Iterator[str]:
    named = {"fixed": "trained at one length", "curriculum": "trained on lengths that grow"}
    for task, labels in _by_task(rows).items():
        if not any(row["horizon"] for each in labels.values() for row in each.values()):
            yield f"On {task}, no row solves any length that was tried."
            continue
        protocols = list(dict.fromkeys(protocol for each in labels.values() for protocol in each))
        parts = [
            f"{label} {' and '.join(_steps(each.get(name)) for name in protocols)}" for label, each in labels.items()
        ]
        yield f"On {task}, steps solved when {' and '.join(named[name] for name in protocols)}: {'; '.join(parts)}."


def _steps(row: Row | None) -> str:
    return f"{row['horizon']:,}" if row and row["horizon"] else "none"


def _table(rows: Sequence[Row]) -> Table:
    head = ("", "lengths", "horizon", "interval", "still solves", "steps", "seconds", "learning rate")
    fields: list[tuple[Field, ...]] = []
    for row in rows:
        seconds = row.get("seconds")
        fields.append(
            (
                f"{row['task']}, {row['label']}",
                protocol_of(row),
                format_number(row["horizon"]) or "none",
                interval(row),
                format_number(row.get("generalises")),
                format_number(row.get("steps")),
                "" if seconds is None else f"{seconds:,.0f}",
                format_number(row.get("learning_rate")),
            )
        )
    return Table(head, tuple(fields))


def draw_reach(name: str, rows: Sequence[Row]) -> Picture:
    """Draw a panel for each task: for each label a bar per protocol up to its horizon, and a line to ``generalises``.

    A row that solved nothing has no bar.
    """
    tasks = _by_task(rows)
    counts = [len(labels) for labels in tasks.values()]
    figure = new_figure(WIDTH, 1.0 + sum(0.45 + 0.5 * count for count in counts))
    panels = figure.subplots(len(tasks), 1, sharex=True, squeeze=False, height_ratios=[0.3 + each for each in counts])
    ends = [int(end) for row in rows for end in (row["horizon"], row.get("generalises")) if end]
    low, high = min([*ends, 10]) / 2, max([*ends, 10])
    for (axes,), (task, labels) in zip(panels, tasks.items(), strict=True):
        axes.set_xscale("log")
        axes.set_xlim(low, high * (high / low) ** 0.38)  # room for the numbers
        for place, each in enumerate(reversed(labels.values())):
            for protocol, row in each.items():
                offset = 0.0 if len(each) == 1 else _BAR / 2 if protocol == "fixed" else -_BAR / 2
                _draw_bar(axes, place + offset, row, low)
        last = axes is panels[-1][0]
        label_axes(axes, "sequence length (steps)" if last else "", "", task)
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:,.0f}")
        label_rows(axes, list(labels))
    for protocol in dict.fromkeys(map(protocol_of, rows)):
        panels[0][0].barh(0, 0, left=low, **_LOOKS[protocol])
    ends_at = {"marker": "|", "markersize": 8, "markeredgewidth": 1.4}
    panels[0][0].errorbar([], [], xerr=[], color=INK, linewidth=1.4, **ends_at, label="still solves, not trained at")
    legend(figure, panels[0][0], columns=2)
    caption = (
        "Bar: largest sequence length that at least 2/3 of the seeds learn to solve. Line: longest tested length that"
        " these models still solve without training at it. No bar: no length is solved."
    )
    return Picture(name, caption, figure)


def _draw_bar(axes: "Axes", place: float, row: Row, low: float) -> None:
    text: dict[str, Any] = {"va": "center", "fontsize": points(9), "color": INK}
    horizon, longest = row["horizon"], row.get("generalises")
    if not horizon:
        axes.annotate("none", (low, place), (4, 0), textcoords="offset points", **text)
        return
    axes.barh(place, horizon - low, _BAR, left=low, color=_LOOKS[protocol_of(row)]["color"], linewidth=0)
    shown = f"{horizon:,}"
    if longest and longest > horizon:
        axes.plot([horizon, longest], [place] * 2, color=INK, linewidth=1.4)
        axes.plot([longest], [place], color=INK, marker="|", markersize=8, markeredgewidth=1.4)
        shown += f" → {longest:,}"
    axes.annotate(shown, (max(horizon, longest or 0), place), (5, 0), textcoords="offset points", **text)


def horizon_rows(horizons: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the lines of ``horizons.csv``."""
    rows = [row for _, horizon in horizons for row in horizon["rows"]]
    return [{**{name: row.get(name) for name in COLUMNS}, "protocol": protocol_of(row)} for row in rows]
