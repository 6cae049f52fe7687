"""Colours, lines, axes and output of all figures of the study.

The colours are six of Okabe & Ito ("Color universal design", 2008), which people with colour-vision deficiency can tell
apart, without the yellow (lost on white) and the black (lost in dark mode). Beyond six, line styles change; each name
also has a marker, for prints in grey.

A cell has the same style in every report: its place among the installed cells, seqlab's own first, then by
distribution, name length and alphabet, so that another distribution does not change seqlab's colours. Models without a
cell are grey. A name that is not installed takes a place by its checksum.
"""

import io
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from seqlab._deprecated import old_names
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
"""Text and axes; HTML pages replace it by their own colour."""

WIDTH = 5.6
"""Width of a figure in inches: text of 10 points is still legible where a phone shows it at 70 %."""

Dashes = str | tuple[float, tuple[float, ...]]
_LINES: tuple[Dashes, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1, 1.5, 1, 1.5)),
)
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
    """Line and marker of one label, in matplotlib's terms; the marker may be filled."""

    colour: str
    line: Dashes
    marker: str
    filled: bool = True

    def line_options(self) -> dict[str, Any]:
        """Return keywords of ``Axes.plot``."""
        return {
            "color": self.colour,
            "linestyle": self.line,
            "linewidth": 1.2 if _is_column.get() else 1.7,
            "marker": self.marker,
            "markersize": 3.6 if _is_column.get() else 5,
            "markerfacecolor": self.colour if self.filled else "none",
            "markeredgewidth": 1.1,
        }


@cache
def _places(kind: str) -> Mapping[str, int]:
    ordered = sorted(
        plugins(kind).values(),
        key=lambda each: (each.distribution != "seqlab", each.distribution, len(each.name), each.name),
    )
    return {each.name: place for place, each in enumerate(ordered)}


def _style_at(place: int) -> Style:
    line = _LINES[place // len(COLOURS) % len(_LINES)]
    return Style(COLOURS[place % len(COLOURS)], line, _MARKERS[place % len(_MARKERS)])


def _style_of(name: str) -> Style:
    cells, models = _places("cell"), _places("model")
    if name in models and name not in cells:
        place = models[name]
        return Style(GREY, _GREY_LINES[place % len(_GREY_LINES)], _MARKERS[place % len(_MARKERS)], filled=False)
    return _style_at(_place_of(name))


def _place_of(name: str) -> int:
    cells = _places("cell")
    return cells[name] if name in cells else len(cells) + zlib.crc32(name.encode()) % len(COLOURS)


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """Return a style per label, all different as far as there are enough.

    The first word of a label, its cell or model, gives the colour. Further labels of that cell or model (other sizes,
    say) keep the colour and change line and marker. If all labels share it, they take the colours in their order.
    """
    labels = list(dict.fromkeys(labels))
    heads = [label.partition(" ")[0] for label in labels]
    if len(set(heads)) == 1 and len(labels) > 1:
        return {label: _style_at(place) for place, label in enumerate(labels)}
    assigned: dict[str, Style] = {}
    by_head = _head_styles(heads)
    for place, (label, head) in enumerate(zip(labels, heads, strict=True)):
        style, nth = by_head[head], heads[:place].count(head)
        lines = _GREY_LINES if style.colour == GREY else _LINES
        while nth and style in assigned.values():
            line = lines[(lines.index(style.line) + nth) % len(lines)]
            marker = _MARKERS[(_MARKERS.index(style.marker) + nth) % len(_MARKERS)]
            style = replace(style, line=line, marker=marker, filled=not style.filled if nth % 2 else style.filled)
            nth += 1
            if nth > len(_MARKERS) * len(lines):
                break
        assigned[label] = style
    return assigned


def _head_styles(names: Sequence[str]) -> dict[str, Style]:
    """Return a style per name; names that are not installed avoid the colours of the others."""
    found = {name: _style_of(name) for name in names if name in _places("cell") or name in _places("model")}
    for name in names:
        if name not in found:
            taken = {style.colour for style in found.values()}
            first = _place_of(name)
            candidates = (first + further for further in range(len(COLOURS)))
            found[name] = _style_at(next((p for p in candidates if COLOURS[p % len(COLOURS)] not in taken), first))
    return found


COLUMN = 3.4
"""Width in inches of a column of a two-column paper; figures that are not wider than :data:`WIDTH` are scaled to it."""
_is_column: ContextVar[bool] = ContextVar("_is_column", default=False)


@contextmanager
def column_figures() -> Iterator[None]:
    """Draw the figures of this block for a column of a paper: narrower, with smaller text and thinner lines."""
    from matplotlib import rc_context

    token = _is_column.set(True)
    try:
        with rc_context({"font.size": 7.5, "axes.linewidth": 0.6, "lines.markersize": 4}):
            yield
    finally:
        _is_column.reset(token)


def points(size: float) -> float:
    """Return the size of text for the present width of figures."""
    return max(5.0, 0.78 * size) if _is_column.get() else size


def new_figure(width: float, height: float) -> "Figure":
    """Create a figure outside pyplot, in inches, with a transparent background."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if _is_column.get():
        width, height = COLUMN * max(1.0, width / WIDTH), 0.72 * height
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_visible(False)
    return figure


def label_axes(axes: "Axes", x: str, y: str, title: str = "") -> None:
    """Set labels and title (plain text), a faint grid, and no box."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    if title:
        axes.set_title(title, loc="left", color=INK, fontsize=points(10), parse_math=False)
    axes.patch.set_visible(False)
    axes.grid(visible=True, which="major", color=INK, alpha=0.13, linewidth=0.7)
    axes.tick_params(which="both", colors=INK, labelsize=points(9))
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_alpha(0.5)


def distance_axis(axes: "Axes", distances: Sequence[int]) -> None:
    """Set ticks at the distances that were run, on a logarithmic axis where they span a factor of four."""
    from matplotlib.ticker import FixedLocator, NullLocator

    ordered = sorted(set(distances))
    is_log = ordered[0] > 0 and ordered[-1] >= 4 * ordered[0]
    if is_log:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(_spaced(ordered, logarithmic=is_log)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _spaced(values: Sequence[int], *, logarithmic: bool) -> list[int]:
    """Return those of some ascending values whose labels do not touch, a twelfth of the axis apart, with both ends."""
    where = [log2(value) if logarithmic else float(value) for value in values]
    gap = (where[-1] - where[0]) / 12
    kept = [0]
    for place in range(1, len(values) - 1):
        if where[place] - where[kept[-1]] >= gap <= where[-1] - where[place]:
            kept.append(place)
    return [values[place] for place in dict.fromkeys([*kept, len(values) - 1])]


def legend(figure: "Figure", axes: "Axes", columns: int = 3) -> None:
    """Put one legend below all axes of a figure, in as many columns as its width has room for."""
    handles, names = axes.get_legend_handles_labels()
    for number in range(min(columns, len(names)), 0, -1):
        box = figure.legend(
            handles,
            names,
            loc="outside lower left",
            ncols=number,
            frameon=False,
            fontsize=points(9),
            labelcolor=INK,
            handlelength=3,
            columnspacing=1.5,
        )
        for text in box.get_texts():
            text.set_parse_math(False)
        if number == 1 or box.get_window_extent().width <= figure.bbox.width:
            return
        box.remove()


KINDS = (".png", ".svg", ".pdf")


def save_figure(figure: "Figure", path: Path, dpi: int = 120) -> None:
    """Write a figure on white, atomically, in the format of the file's suffix."""
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: the suffix of a figure must be one of {', '.join(KINDS)}")
    from matplotlib import rc_context

    kind, content, was_visible = path.suffix[1:].lower(), io.BytesIO(), figure.patch.get_visible()
    figure.patch.set_visible(True)
    metadata = {"CreationDate": None} if kind == "pdf" else None
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table of an embedded font
    with rc_context({"pdf.fonttype": 42}):  # TrueType, embedded: publishers refuse the default, type 3
        figure.savefig(content, format=kind, dpi=dpi, facecolor="white", metadata=metadata)
    figure.patch.set_visible(was_visible)
    write_bytes(path, content.getvalue())


def drawable(text: str) -> str:
    """Replace white space by visible symbols, and characters that the font lacks by a box."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    visible = ({" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5"}.get(character, character) for character in text)
    return "".join(character if ord(character) in known else "\u25a1" for character in visible)


__getattr__ = old_names(__name__, {"dress": "label_axes", "save": "save_figure"})
