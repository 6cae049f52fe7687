"""A document as HTML and as Markdown."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqlab.study.report.blocks import Block, Code, Commands, Document, Shown, Table, Text, is_figure

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
    if isinstance(block, Shown):
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
