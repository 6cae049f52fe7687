"""Colours, lines and axes of every figure of the study: the same for the same name, in every report.

The colours are six of Okabe & Ito ("Color universal design", 2008), chosen to be told apart by the colour-blind; left
out are the yellow, which is lost on white, and the black, which is lost in dark mode. Where six do not suffice, the
kind of line changes, and each name has a marker, so that a print in grey can be read as well.

A name's slot is its place among the installed cells: seqlab's own first, then those of other distributions by their
name; within one distribution the shortest name first, then by alphabet. So another distribution moves none of seqlab's
colours. Models without a cell are what cells are compared with: they are grey, by kind of line and marker. A name that
is not installed takes a slot by its checksum.
"""

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from seqlab.errors import UserError
from seqlab.io.atomic import write_bytes
from seqlab.plugins.registry import plugins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Blue, vermilion, green, purple, orange, sky."""
GREY = "#808080"
INK = "#1b1f24"
"""Of text and axes; pages replace it by their own."""

WIDTH = 5.6
"""Of a figure, in inches: text of 10 points is then still legible where a phone shows it at 70 %."""

Dashes = str | tuple[float, tuple[float, ...]]
_LINES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))
_GREY_LINES: tuple[Dashes, ...] = (
    (0, (1.2, 1.2)),
    (0, (6, 2)),
    (0, (4, 1.5, 1, 1.5)),
    (0, (8, 2, 1, 2, 1, 2)),
    (0, (2.5, 1)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")


@final
@dataclass(frozen=True)
class Style:
    """How one label is drawn.

    Attributes:
        colour: as ``#rrggbb``.
        line: matplotlib's ``linestyle``.
        marker: matplotlib's ``marker``.
        filled: whether the marker is.
    """

    colour: str
    line: Dashes
    marker: str
    filled: bool = True

    def line_options(self) -> dict[str, Any]:
        """Give the keywords of ``Axes.plot``."""
        face = self.colour if self.filled else "none"
        return {
            "color": self.colour,
            "linestyle": self.line,
            "linewidth": 1.7,
            "marker": self.marker,
            "markersize": 5,
            "markerfacecolor": face,
            "markeredgewidth": 1.1,
        }


@cache
def _places(kind: str) -> Mapping[str, int]:
    own = "seqlab"
    found = plugins(kind).values()
    ordered = sorted(found, key=lambda each: (each.distribution != own, each.distribution, len(each.name), each.name))
    return {each.name: place for place, each in enumerate(ordered)}


def _of_name(name: str) -> Style:
    cells, models = _places("cell"), _places("model")
    if name in models and name not in cells:
        place = models[name]
        return Style(GREY, _GREY_LINES[place % len(_GREY_LINES)], _MARKERS[place % len(_MARKERS)], filled=False)
    return _slot(_slot_of(name))


def colour(label: str) -> str:
    """Give a label's colour, as ``#rrggbb``: that of its first word, the cell or model, whatever else it says."""
    return _of_name(label.partition(" ")[0]).colour


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """Give each of some labels a style, no two the same as far as there are enough.

    The first label of a cell or model has that one's own; further ones of it (other sizes, say) keep the colour and
    take other lines and markers. Where all are of one cell or model they take the colours in their order instead.
    """
    labels = list(dict.fromkeys(labels))
    heads = [label.partition(" ")[0] for label in labels]
    if len(set(heads)) == 1 and len(labels) > 1:
        return {label: _slot(place) for place, label in enumerate(labels)}
    given: dict[str, Style] = {}
    own = _told_apart(heads)
    for place, (label, head) in enumerate(zip(labels, heads, strict=True)):
        style, nth = own[head], heads[:place].count(head)
        lines = _GREY_LINES if style.colour == GREY else _LINES
        while nth and style in given.values():
            line = lines[(lines.index(style.line) + nth) % len(lines)]
            marker = _MARKERS[(_MARKERS.index(style.marker) + nth) % len(_MARKERS)]
            style = replace(style, line=line, marker=marker, filled=not style.filled if nth % 2 else style.filled)
            nth += 1
            if nth > len(_MARKERS) * len(lines):
                break
        given[label] = style
    return given


def _told_apart(names: Sequence[str]) -> dict[str, Style]:
    """Give each name its style; one that is not installed makes way for the colours of the others."""
    installed = [name for name in names if name in _places("cell") or name in _places("model")]
    found = {name: _of_name(name) for name in installed}
    for name in names:
        if name not in found:
            taken = {style.colour for style in found.values()}
            first = _slot_of(name)
            slots = [first + further for further in range(len(COLOURS))]
            found[name] = _slot(next((slot for slot in slots if COLOURS[slot % len(COLOURS)] not in taken), first))
    return found


def _slot_of(name: str) -> int:
    cells = _places("cell")
    return cells[name] if name in cells else len(cells) + zlib.crc32(name.encode()) % len(COLOURS)


def _slot(place: int) -> Style:
    line = _LINES[place // len(COLOURS) % len(_LINES)]
    return Style(COLOURS[place % len(COLOURS)], line, _MARKERS[place % len(_MARKERS)])


def new_figure(width: float, height: float) -> "Figure":
    """Make a figure outside pyplot, in inches; its background is the page's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_visible(False)
    return figure


def label_axes(axes: "Axes", x: str, y: str, title: str = "") -> None:
    """Give axes their labels with units, a faint grid and no box."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    if title:
        axes.set_title(title, loc="left", color=INK, fontsize=10)
    axes.patch.set_visible(False)
    axes.grid(visible=True, which="major", color=INK, alpha=0.13, linewidth=0.7)
    axes.tick_params(which="both", colors=INK, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_alpha(0.5)


def distance_axis(axes: "Axes", distances: Sequence[int]) -> None:
    """Put ticks at the distances that were run, on a logarithmic axis where they span a factor of four."""
    from matplotlib.ticker import FixedLocator, NullLocator

    there = sorted(set(distances))
    is_log = there[0] > 0 and there[-1] >= 4 * there[0]
    if is_log:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(_apart(there, logarithmic=is_log)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _apart(values: Sequence[int], *, logarithmic: bool, most: int = 12) -> list[int]:
    """Take those of some rising values whose labels do not touch: the first, the last, and what is far enough.

    Far enough is a share of the axis, 1 in ``most``.
    """
    where = [log2(value) if logarithmic else float(value) for value in values]
    gap = (where[-1] - where[0]) / most
    kept = [0]
    for place in range(1, len(values) - 1):
        if where[place] - where[kept[-1]] >= gap <= where[-1] - where[place]:
            kept.append(place)
    return [values[place] for place in dict.fromkeys([*kept, len(values) - 1])]


def legend(figure: "Figure", axes: "Axes", columns: int = 3) -> None:
    """Put one legend under all axes of a figure, without a box, in as many columns as its width has room for."""
    handles, names = axes.get_legend_handles_labels()
    for number in range(min(columns, len(names)), 0, -1):
        shown = figure.legend(
            handles,
            names,
            loc="outside lower left",
            ncols=number,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            handlelength=3,
            columnspacing=1.5,
        )
        for text in shown.get_texts():
            text.set_parse_math(False)
        if number == 1 or shown.get_window_extent().width <= figure.bbox.width:
            return
        shown.remove()


KINDS = (".png", ".svg", ".pdf")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a picture, whole or not at all; the name's ending says of which kind.

    Raises:
        UserError: of none of :data:`KINDS`, or it cannot be written.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: a picture's name ends in one of {', '.join(KINDS)}")
    whole = io.BytesIO()
    figure.savefig(whole, format=path.suffix[1:].lower(), dpi=120)
    write_bytes(path, whole.getvalue())


def drawable(text: str) -> str:
    """Make what a font lacks, or nobody sees, visible: a blank, the end of a line, and a box for the rest."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    shown = "".join({" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5"}.get(letter, letter) for letter in text)
    return "".join(letter if ord(letter) in known else "\u25a1" for letter in shown)
