"""Run the Python blocks of a page and compare their output with the page.

``python docs/_ext/blocks.py docs/learn/*.md`` runs pages, each in an empty folder, and updates the output below each
block and the pictures beside the page.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(python|text)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"!\[[^\]]+\]\(([\w.]+)\)")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@contextlib.contextmanager
def at(folder: Path) -> Iterator[None]:
    """Change into a folder; pictures depend on neither date nor random ids."""
    import matplotlib

    settings = {"svg.hashsalt": "seqlab", "svg.fonttype": "path"}
    before, epoch = Path.cwd(), os.environ.get("SOURCE_DATE_EPOCH")
    os.chdir(folder)
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    try:
        with matplotlib.rc_context(settings):
            yield
    finally:
        os.chdir(before)
        os.environ.pop("SOURCE_DATE_EPOCH")
        if epoch is not None:
            os.environ["SOURCE_DATE_EPOCH"] = epoch


def outputs(page: str, folder: Path, name: str = "page") -> list[str]:
    """Run the Python blocks in one namespace; return what each printed."""
    names: dict[str, Any] = {"__name__": name}
    printed = []
    with at(folder):
        for language, _, body in FENCE.findall(page):
            if language == "python":
                shown = io.StringIO()
                with contextlib.redirect_stdout(shown):
                    exec(compile(body, name, "exec"), names)
                printed.append(shown.getvalue())
    return printed


def expected(page: str) -> list[tuple[str, bool]]:
    """Return the output shown below each Python block, and whether its figures are approximate (``about``)."""
    found: list[tuple[str, bool]] = []
    for language, words, body in FENCE.findall(page):
        if language == "python":
            found.append(("", False))
        elif found:
            found[-1] = (body, "about" in words)
    return found


def differs(said: str, printed: str, *, about: bool) -> bool:
    """Compare; approximate figures may differ by 0.1 or a tenth, whichever is larger."""
    if not about:
        return said != printed
    if NUMBER.split(said) != NUMBER.split(printed):
        return True
    pairs = zip(NUMBER.findall(said), NUMBER.findall(printed), strict=True)
    return any(abs(float(a) - float(b)) > max(0.1, 0.1 * abs(float(a))) for a, b in pairs)


def filled(page: str, printed: list[str]) -> str:
    """Return the page with the printed output below its blocks."""
    left = iter(printed)
    last = ""

    def fill(found: re.Match[str]) -> str:
        nonlocal last
        if found[1] == "python":
            last = next(left)
            return found[0]
        return f"```text{found[2]}\n{last}```"

    return FENCE.sub(fill, page)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        text = path.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder:
            path.write_text(filled(text, outputs(text, Path(folder), path.stem)), "utf-8")
            for picture in Path(folder).glob("*.svg"):
                shutil.copy(picture, path.parent)
