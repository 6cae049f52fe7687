"""Document of a report, rendered as HTML and Markdown."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, final

from seqlab.study.plotting import INK
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
class FigureBlock:
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


Block = Text | Table | FigureBlock | Code


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


_FONTS = ["DejaVu Sans", "Verdana", "Arial", "sans-serif"]
"""The first is what matplotlib measures by; the others are at most as wide, so that nothing overlaps."""


def standalone(picture: Picture) -> str:
    """Write a figure as an SVG file, on white.

    Text stays text (``svg.fonttype: none``): a fifth of the size of outlines, searchable, and read aloud.
    """
    import matplotlib

    stream = io.StringIO()
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": picture.name, "font.sans-serif": _FONTS}
    with matplotlib.rc_context(options):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        picture.figure.savefig(stream, format="svg", metadata=nothing)
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text)  # a copy of each text, which a label may break
    return re.sub(r"(<svg\b[^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', text, count=1)


def inline(picture: Picture, standing: str) -> str:
    """Turn an SVG file into a piece of a page: no prolog, no namespace, no white, ids of its own, the page's ink."""
    text = standing[standing.index("<svg") :].replace('<rect width="100%" height="100%" fill="#ffffff"/>', "", 1)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    view = box.group(1) if box else "0 0 400 300"
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = body.replace("xlink:href=", "href=").replace(INK, "currentColor")
    label = escape(picture.caption, quote=True)
    return f'<svg viewBox="{view}" role="img" aria-label="{label}">{body.strip()}'


def png(picture: Picture) -> bytes:
    """Draw a figure as PNG, on white, at 150 dots an inch."""
    stream = io.BytesIO()
    picture.figure.patch.set_visible(True)
    picture.figure.savefig(stream, format="png", dpi=150, facecolor="white")
    picture.figure.patch.set_visible(False)
    return stream.getvalue()


_TEMPLATES = Path(__file__).parent / "templates"


def html(document: Document, figures: Mapping[str, str]) -> str:
    """Write one page without script, network or file beside it.

    Args:
        document: the report.
        figures: each figure as inline SVG, by its name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.tests["commands"] = lambda field: isinstance(field, Commands)
    environment.tests["numeric"] = is_figure
    return environment.get_template("report.html.jinja").render(document=document, figures=figures)


def markdown(document: Document) -> str:
    """Write the same as Markdown, with the figures beside it and the commands of each table below it."""
    lines = [f"# {document.title}", ""]
    for section in document.sections:
        lines += [f"{'#' * section.level} {plain(section.title)}", ""]
        for block in section.blocks:
            lines += [*_lines(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def _lines(block: Block) -> list[str]:
    if isinstance(block, Text):
        return [f"**{plain(block.text)}**" if block.is_answer else plain(block.text)]
    if isinstance(block, FigureBlock):
        name, caption = block.picture.name, plain(block.picture.caption)
        return [f"![{caption}](figures/{name}.svg)", "", f"*{caption}*"]
    if isinstance(block, Code):
        return [plain(block.title) + ":", "", *_fenced(block.lines)]
    return _table_lines(block)


def _table_lines(table: Table) -> list[str]:
    held = [at for at in range(len(table.head)) if any(isinstance(row[at], Commands) for row in table.rows)]
    shown = [at for at in range(len(table.head)) if at not in held]
    lines = ["| " + " | ".join(plain(table.head[at]) for at in shown) + " |"]
    lines.append("|" + "|".join("---:" if table.right(at) else "---" for at in shown) + "|")
    lines += ["| " + " | ".join(plain(str(row[at])) for at in shown) + " |" for row in table.rows]
    commands = [line for row in table.rows for at in held if isinstance(got := row[at], Commands) for line in got.lines]
    return (
        [*lines, "", "<details><summary>commands</summary>", "", *_fenced(commands), "", "</details>"]
        if commands
        else lines
    )


def _fenced(lines: Sequence[str]) -> list[str]:
    longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", *lines, fence]


def plain(text: str) -> str:
    """Write text so that Markdown takes it for text."""
    return re.sub(r"([\\`*_|\[\]<>])", r"\\\1", " ".join(text.split()))
