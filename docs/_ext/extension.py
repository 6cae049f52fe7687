"""Sphinx extension: generated reference pages, MathML equations, wide table cells."""

import contextlib
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.writers.html5_polyglot import HTMLTranslator
from sphinx.application import Sphinx

PROSE = 36
"""Length in characters from which a table cell gets the class ``prose``."""


def write_reference(app: Sphinx) -> None:
    """Write changed pages into ``reference/generated/`` and delete stale ones."""
    from reference import pages

    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(exist_ok=True)
    generated = pages()
    for name, text in generated.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in generated:
            path.unlink()


def keep_returns(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Prefix the text of "Returns:" with a colon, since Napoleon reads what precedes a colon as a type."""
    for place, line in enumerate(lines[:-1]):
        if line.strip() in ("Returns:", "Yields:"):
            text = lines[place + 1].lstrip()
            lines[place + 1] = lines[place + 1].removesuffix(text) + ": " + text


def mark_prose(_: Sphinx, tree: nodes.document) -> None:
    """Add the class ``prose`` to long table cells, to which narrow screens give a minimum width."""
    for cell in tree.findall(nodes.entry):
        if len(cell.astext()) >= PROSE:
            cell["classes"].append("prose")


def equations(tex: str) -> list[str]:
    """Split a math block into its lines; a line that starts with an operator continues the previous one."""
    if r"\\" in tex or r"\begin" in tex:
        return [tex]
    found: list[str] = []
    for line in filter(None, map(str.strip, tex.splitlines())):
        if found and line[0] in "+-=":
            found[-1] += " " + line
        else:
            found.append(line)
    return found


def math(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Render an equation by docutils' own MathML writer, which needs neither scripts nor fonts."""
    translator.math_output, translator.math_options = "mathml", ""
    HTMLTranslator.visit_math(translator, node)


def math_block(translator: Any, node: nodes.math_block) -> None:
    """Render each equation of a block in a container that scrolls on narrow screens."""
    for tex in equations(node.astext()):
        equation = nodes.math_block(tex, tex)
        equation.source, equation.line = node.source, node.line
        translator.body.append('<div class="equation">')
        with contextlib.suppress(nodes.SkipChildren):
            math(translator, equation)
        translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hooks and ``html_math_renderer = "mathml"``."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", keep_returns, priority=100)  # before Napoleon
    app.connect("doctree-read", mark_prose)
    app.add_html_math_renderer("mathml", inline_renderers=(math, None), block_renderers=(math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
