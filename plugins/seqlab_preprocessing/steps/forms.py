"""Unicode's normal forms, in a time that grows with the text; this file needs the standard library only."""

import re
import unicodedata
from typing import Literal

_MOST = 1_000
_LONG = re.compile(rf"[^\w\s\x00-\x7f]{{{_MOST + 1},}}")
_JOINER = "\u034f"


def normalised(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Normalise a text; in a run of more than 1,000 combining marks a U+034F stands after each 1,000.

    Sorting the marks of a letter takes the square of their number; so the Stream-Safe Text Format (UAX #15, section 13)
    parts them, there after 30.
    """
    return unicodedata.normalize(form, text if text.isascii() else _LONG.sub(_parted, text))


def _parted(found: re.Match[str]) -> str:
    made, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MOST:
            made.append(_JOINER)
            marks = 1
        made.append(character)
    return "".join(made)
