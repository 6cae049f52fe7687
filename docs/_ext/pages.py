"""Sphinx extension: writes the generated pages and prepares docstrings."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def write(app: Sphinx) -> None:
    """Write changed pages into ``reference/generated/`` and delete obsolete ones."""
    from reference import pages

    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(exist_ok=True)
    made = pages()
    for name, text in made.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in made:
            path.unlink()


def returned(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Prefix a colon to a documented result, before which Napoleon would look for a type."""
    for place, line in enumerate(lines[:-1]):
        if line.strip() in ("Returns:", "Yields:"):
            after = lines[place + 1]
            lines[place + 1] = after[: len(after) - len(after.lstrip())] + ": " + after.lstrip()


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect both, the second before Napoleon."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", returned, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
