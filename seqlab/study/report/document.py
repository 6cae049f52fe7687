"""Document of a report, rendered as HTML and Markdown."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import floor, log10
from pathlib import Path
from typing import Any, final

from seqlab.study.plotting import INK
from seqlab.study.report.figures import Picture


@final
@dataclass(frozen=True)
class Commands:
    """Table field with the commands that repeat the runs of its row."""

    lines: tuple[str, ...]


Field = str | Commands

_NUMBER = re.compile(r"[-−]?\d[\d,.e+-]*%?( (±|to) [-−]?\d[\d,.e+-]*)?|-")


def is_number(field: Field) -> bool:
    """Return whether a field is a number, a range, or a mean with its deviation."""
    return isinstance(field, str) and bool(_NUMBER.fullmatch(field))


@final
@dataclass(frozen=True)
class Text:
    """Paragraph; the result of a section and warnings are emphasised."""

    text: str
    is_result: bool = False
    is_caution: bool = False
    kind: str = "text"


@final
@dataclass(frozen=True)
class Table:
    """Rows under a head; numbers are aligned right.

    Attributes:
        head: names of the columns.
        rows: a field for each.
        bold: places of the rows in bold.
        in_print: columns of a paper; empty: all without commands.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Field, ...], ...]
    bold: frozenset[int] = frozenset()
    in_print: tuple[str, ...] = ()
    kind: str = "table"

    def is_numeric(self, column: int) -> bool:
        """Return whether a column has numbers, so that its head is aligned right."""
        return any(is_number(row[column]) for row in self.rows)


@final
@dataclass(frozen=True)
class FigureBlock:
    """Figure."""

    picture: Picture
    kind: str = "figure"


@final
@dataclass(frozen=True)
class Code:
    """Commands under a line of text."""

    title: str
    lines: tuple[str, ...]
    kind: str = "code"


Block = Text | Table | FigureBlock | Code


@final
@dataclass
class Section:
    """Heading, of level 3 within another section, and blocks."""

    title: str
    level: int = 2
    blocks: list[Block] = field(default_factory=list)


@final
@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        return [block.picture for each in self.sections for block in each.blocks if isinstance(block, FigureBlock)]


def format_number(value: float | None, digits: int = 4) -> str:
    """Format a number with some significant digits and thousands separators; ``None`` is empty."""
    if value is None:
        return ""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def format_mean(mean: float, deviation: float | None) -> str:
    """Format a mean and its standard deviation, with two digits of the deviation."""
    if deviation is None or deviation == 0:
        return (format_number(mean) if mean != int(mean) else f"{mean:.4g}") + (" ± 0" if deviation == 0 else "")
    places = max(0, 1 - floor(log10(deviation)))
    return f"{mean:.{places}f} ± {deviation:.{places}f}" if places <= 6 else f"{mean:.3g} ± {deviation:.2g}"


_FONTS = ["DejaVu Sans", "Verdana", "Arial", "sans-serif"]
"""matplotlib measures by the first; the others are at most as wide, so that nothing overlaps."""


def render_svg(picture: Picture) -> str:
    """Render a figure as SVG file, on white.

    Text stays text (``svg.fonttype: none``): a fifth of the size of outlines, searchable, and read aloud.
    """
    import matplotlib

    stream = io.StringIO()
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": picture.name, "font.sans-serif": _FONTS}
    with matplotlib.rc_context(options):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        picture.figure.savefig(stream, format="svg", metadata=metadata)
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text)  # a copy of each text, in which a label may break out
    return re.sub(r"(<svg\b[^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', text, count=1)


def inline_svg(picture: Picture, svg: str) -> str:
    """Turn an SVG file into an element of a page: without prolog, namespaces and background, in the page's colour."""
    text = svg[svg.index("<svg") :].replace('<rect width="100%" height="100%" fill="#ffffff"/>', "", 1)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    view = box.group(1) if box else "0 0 400 300"
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = body.replace("xlink:href=", "href=").replace(INK, "currentColor")
    label = escape(picture.caption, quote=True)
    return f'<svg viewBox="{view}" role="img" aria-label="{label}">{body.strip()}'


_TEMPLATES = Path(__file__).parent / "templates"


def html(document: Document, figures: Mapping[str, str], *, sortable: bool = False) -> str:
    """Render a single page without network access or further files; figures are inline SVG by name.

    It has no script, unless its tables are ``sortable``: the one script is in the page, and the content security policy
    admits no other.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.tests["commands"] = lambda field: isinstance(field, Commands)
    environment.tests["numeric"] = is_number
    if not sortable:
        return environment.get_template("report.html.jinja").render(document=document, figures=figures)
    script = (_TEMPLATES / "sort.js").read_text("utf-8")
    policy = f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
    template = environment.get_template("board.html.jinja")
    return template.render(document=document, figures=figures, script=script, policy=policy)


def markdown(document: Document) -> str:
    """Render Markdown that refers to files of the figures, with the commands of each table below it."""
    lines = [f"# {document.title}", ""]
    for section in document.sections:
        lines += [f"{'#' * section.level} {_escape(section.title)}", ""]
        for block in section.blocks:
            lines += [*_lines(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def _lines(block: Block) -> list[str]:
    if isinstance(block, Text):
        mark = "**" if block.is_result else "> " if block.is_caution else ""
        return [f"{mark}{_escape(block.text)}{'**' if block.is_result else ''}"]
    if isinstance(block, FigureBlock):
        name, caption = block.picture.name, _escape(block.picture.caption)
        return [f"![{caption}](figures/{name}.svg)", "", f"*{caption}*"]
    if isinstance(block, Code):
        return [_escape(block.title) + ":", "", *_fence(block.lines)]
    return _table_lines(block)


def _table_lines(table: Table) -> list[str]:
    columns = range(len(table.head))
    of_commands = [at for at in columns if any(isinstance(row[at], Commands) for row in table.rows)]
    of_text = [at for at in columns if at not in of_commands]
    lines = ["| " + " | ".join(_escape(table.head[at]) for at in of_text) + " |"]
    lines.append("|" + "|".join("---:" if table.is_numeric(at) else "---" for at in of_text) + "|")
    for place, row in enumerate(table.rows):
        mark = "**" if place in table.bold else ""
        texts = (_escape(str(row[at])) for at in of_text)
        lines.append("| " + " | ".join(f"{mark}{text}{mark}" if text else "" for text in texts) + " |")
    fields = [row[at] for row in table.rows for at in of_commands]
    commands = [line for field in fields if isinstance(field, Commands) for line in field.lines]
    if commands:
        lines += ["", "<details><summary>commands</summary>", "", *_fence(commands), "", "</details>"]
    return lines


def _fence(lines: Sequence[str]) -> list[str]:
    longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", *lines, fence]


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_|\[\]<>])", r"\\\1", " ".join(text.split()))
