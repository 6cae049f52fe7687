"""Runner of the Python blocks of a page.

``python docs/_ext/blocks.py docs/learn/*.md`` runs each page in an empty folder, writes the output of each block into
the fence below it, and copies the figures beside the page.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

FENCE = re.compile(r"^```(python|text)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"!\[[^\]]+\]\(([\w.]+)\)")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def outputs(page: str, folder: Path, name: str = "page") -> list[str]:
    """Run the Python blocks in order in one namespace and in a folder; return the output of each."""
    import matplotlib

    names: dict[str, Any] = {"__name__": name}
    printed = []
    reproducible = {"svg.hashsalt": "seqlab", "svg.fonttype": "path"}
    environment = patch.dict(os.environ, {"SOURCE_DATE_EPOCH": "0", "MPLBACKEND": "agg"})
    with contextlib.chdir(folder), environment, matplotlib.rc_context(reproducible):
        for language, _, body in FENCE.findall(page):
            if language == "python":
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    exec(compile(body, name, "exec"), names)
                printed.append(output.getvalue())
    return printed


def expected(page: str) -> list[tuple[str, bool]]:
    """Return the expected output of each Python block, and whether its numbers are approximate."""
    found: list[tuple[str, bool]] = []
    for language, options, body in FENCE.findall(page):
        if language == "python":
            found.append(("", False))
        elif found:
            found[-1] = (body, "about" in options)
    return found


def differs(shown: str, printed: str, *, about: bool) -> bool:
    """Return whether two outputs differ; approximate numbers may be off by 0.1 or 10 %."""
    if not about:
        return shown != printed
    if NUMBER.split(shown) != NUMBER.split(printed):
        return True
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return any(abs(float(a) - float(b)) > max(0.1, 0.1 * abs(float(a))) for a, b in pairs)


def filled(page: str, printed: list[str]) -> str:
    """Return the page with the outputs in the fences below the blocks."""
    remaining = iter(printed)
    last = ""

    def fill(found: re.Match[str]) -> str:
        nonlocal last
        if found[1] == "python":
            last = next(remaining)
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
