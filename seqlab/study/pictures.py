"""Pictures as files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from seqlab.errors import UserError
from seqlab.training.runfolder import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg", ".pdf")


def save(figure: "Figure", path: Path) -> None:
    """Write a picture, whole or not at all; the name's ending says of which kind.

    Raises:
        UserError: of none of :data:`KINDS`, or it cannot be written.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: a picture's name ends in one of {', '.join(KINDS)}")
    whole = io.BytesIO()
    figure.savefig(whole, format=path.suffix[1:].lower(), dpi=120)

    def put(file: BinaryIO) -> None:
        file.write(whole.getvalue())

    write_atomically(path, put)


def drawable(text: str) -> str:
    """Make what a font lacks, or nobody sees, visible: a blank, the end of a line, and a box for the rest."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    shown = "".join({" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5"}.get(letter, letter) for letter in text)
    return "".join(letter if ord(letter) in known else "\u25a1" for letter in shown)
