"""What a report is made of, before it becomes HTML or Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from seqlab.study.report.figures import Picture


@final
@dataclass(frozen=True)
class Commands:
    """A field of a table: the commands that made its row."""

    lines: tuple[str, ...]


Field = str | Commands

_FIGURE = re.compile(r"[-−]?\d[\d,.e+-]*%?( (±|to) [-−]?\d[\d,.e+-]*)?|-")


def is_figure(field: Field) -> bool:
    """Whether a field is a number, or two with what stands between them."""
    return isinstance(field, str) and bool(_FIGURE.fullmatch(field))


@final
@dataclass(frozen=True)
class Text:
    """A paragraph; the first one of a section may be its answer, and stands out."""

    text: str
    is_answer: bool = False
    kind: str = "text"


@final
@dataclass(frozen=True)
class Table:
    """Rows under a head; fields that are figures are set to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[Field, ...], ...]
    kind: str = "table"

    def right(self, column: int) -> bool:
        """Whether a column holds figures, so that its head belongs to the right as well."""
        return any(is_figure(row[column]) for row in self.rows)


@final
@dataclass(frozen=True)
class Shown:
    """A figure."""

    picture: Picture
    kind: str = "figure"


@final
@dataclass(frozen=True)
class Code:
    """Commands to copy, under a title."""

    title: str
    lines: tuple[str, ...]
    kind: str = "code"


Block = Text | Table | Shown | Code


@final
@dataclass
class Section:
    """A heading and what stands under it.

    Attributes:
        title: the heading.
        level: 2, or 3 within another section.
        blocks: in order.
    """

    title: str
    level: int = 2
    blocks: list[Block] = field(default_factory=list)


@final
@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    sections: Sequence[Section]


def figure_text(value: float | None, digits: int = 4) -> str:
    """Write a figure: some significant digits, thousands apart, nothing for none."""
    if value is None:
        return ""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def with_spread(mean: float, spread: float | None) -> str:
    """Write a mean with its standard deviation, as many places as the deviation has with two digits."""
    if spread is None or spread == 0:
        return figure_text(mean) if mean != int(mean) else f"{mean:.4g}" + (" ± 0" if spread == 0 else "")
    from math import floor, log10

    places = max(0, 1 - floor(log10(spread)))
    return f"{mean:.{places}f} ± {spread:.{places}f}" if places <= 6 else f"{mean:.3g} ± {spread:.2g}"


def bytes_text(count: float | None) -> str:
    """Write an amount of memory in MB."""
    return "" if count is None else f"{count / 1e6:,.0f}"
