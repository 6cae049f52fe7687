"""Marks cells that hold a sentence, so that a phone gives them room and the table scrolls instead."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

PROSE = 36
"""Characters from which on a cell is more than a name or a figure."""


def mark(_: Sphinx, tree: nodes.document) -> None:
    """Give the class ``prose`` to the cells of every table that need it."""
    for cell in tree.findall(nodes.entry):
        if len(cell.astext()) >= PROSE:
            cell["classes"].append("prose")


def setup(app: Sphinx) -> dict[str, Any]:
    """Hook it in where a page has been read."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
