"""Writes the generated pages before Sphinx reads any."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def write(app: Sphinx) -> None:
    """Write what changed into ``reference/generated/``, and remove what is there no more."""
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Hook the writing in."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
