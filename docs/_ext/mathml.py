"""Equations as MathML, made at build time by docutils: no script, no font, and nothing from another server."""

from html import escape
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

MACROS = {
    "σ": r"\sigma ", "φ": r"\varphi ", "∂": r"\partial ", "⊙": r"\odot ", "∏": r"\prod ", "≤": r"\le ", "→": r"\to ",
    "‖": r"\| ", "·": r"\cdot ", "−": "-", "∼": r"\sim ", "±": r"\pm ", "≈": r"\approx ", "∈": r"\in ", "…": r"\ldots ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "≥": r"\ge ",
}  # fmt: skip
"""Characters that stand in our docstrings as they are, and what TeX calls them."""


def rows(tex: str) -> list[str]:
    """Take a block apart into equations, a line each; a line that begins with an operator goes on with the last one."""
    if r"\\" in tex or r"\begin" in tex:
        return [tex]
    found: list[str] = []
    for line in filter(None, map(str.strip, tex.splitlines())):
        if found and line[0] in "+-=·":
            found[-1] += " " + line
        else:
            found.append(line)
    return found


def mathml(tex: str, node: nodes.Node, *, block: bool) -> str:
    """Write one equation as MathML; what docutils cannot read is a warning, and so an error of `make docs`."""
    for character, macro in MACROS.items():
        tex = tex.replace(character, macro)
    try:
        return str(tex2mathml(tex, as_block=block))
    except MathError as error:
        log.warning("%s in %s", error, tex, location=node)
        return f"<code>{escape(tex)}</code>"


def inline(translator: Any, node: nodes.math) -> None:
    """Write an equation within a line."""
    translator.body.append(mathml(node.astext(), node, block=False))
    raise nodes.SkipNode


def display(translator: Any, node: nodes.math_block) -> None:
    """Write equations on lines of their own, which scroll where a screen is narrow."""
    for equation in rows(node.astext()):
        translator.body.append(f'<div class="equation">{mathml(equation, node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer as ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
