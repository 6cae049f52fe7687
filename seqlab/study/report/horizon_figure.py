"""Figure of horizons: how far each row gets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqlab.study.report.figures import Picture
from seqlab.study.style import WIDTH, Style, distance_axis, dress, new_figure, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    dress(axes, "distance (steps)", "")
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
