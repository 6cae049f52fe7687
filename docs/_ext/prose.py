"""Sphinx extension: marks table cells that hold a sentence, so that narrow screens scroll instead of squeezing them."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

PROSE = 36
"""Minimum length in characters of such a cell."""


def mark(_: Sphinx, tree: nodes.document) -> None:
    """Add the class ``prose`` to long table cells."""
    for cell in tree.findall(nodes.entry):
        if len(cell.astext()) >= PROSE:
            cell["classes"].append("prose")


def setup(app: Sphinx) -> dict[str, Any]:
    """Run after a page has been read."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
