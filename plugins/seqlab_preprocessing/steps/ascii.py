"""Folding to ASCII."""

import re
import unicodedata

from seqlab_preprocessing.steps.forms import normalised

_LETTERS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ł": "l", "Ł": "L", "ı": "i", "ħ": "h", "Ħ": "H", "ŧ": "t", "Ŧ": "T",
    "ŋ": "ng", "Ŋ": "Ng", "ĸ": "k", "ƀ": "b", "Ƀ": "B", "ɓ": "b", "Ɓ": "B", "ɗ": "d", "Ɗ": "D", "ƙ": "k", "Ƙ": "K",
    "ƒ": "f", "Ƒ": "F", "ŀ": "l", "Ŀ": "L",
    "‘": "'", "’": "'", "ʻ": "'", "ʼ": "'", "ʹ": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "ŉ": "'n",
}  # fmt: skip
"""What has no decomposition: special letters, and punctuation that ASCII has in another shape."""

_MARKS_ON_ASCII = re.compile("(?<=[\x00-\x7f])[\u0300-\u036f]+")


def ascii_fold(text: str) -> str:
    """Write Latin letters without marks (``é`` to ``e``, ``ß`` to ``ss``), and keep what has no Latin equivalent.

    Each character takes its compatibility decomposition (NFKD) without combining marks if that is ASCII, or what a
    list of special letters and typographic punctuation says. Other scripts stay as they are, marks included:
    Cyrillic ``й`` is no ``и``.
    """
    if text.isascii():
        return text
    return _MARKS_ON_ASCII.sub("", normalised("NFC", text).translate(_TABLE))


class _Table(dict[int, str]):
    """Folds a character when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = folded = _LETTERS.get(character) or _without_marks(character)
        return folded


def _without_marks(character: str) -> str:
    if unicodedata.combining(character):
        return character
    parts = unicodedata.normalize("NFKD", character)
    letters = "".join(part for part in parts if not unicodedata.combining(part))
    return letters if letters.isascii() else character


_TABLE = _Table()
