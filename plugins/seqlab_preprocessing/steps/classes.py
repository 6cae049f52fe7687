"""Classes of characters for regular expressions, from Unicode's categories."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, final

_ASSIGNED = (range(0x34000), range(0xE0000, 0xE0200))
"""Where Unicode has characters that are not private; the planes between are empty."""


@final
class Class(NamedTuple):
    """A class of characters in two parts, as ``re`` looks up 16 bits in a table, but searches a list for more.

    Attributes:
        low: ranges below U+10000, to stand between ``[`` and ``]``.
        high: ranges from there on.
    """

    low: str
    high: str

    @property
    def one(self) -> str:
        """A pattern for one character of the class."""
        return f"(?:[{self.low}]|(?=[\U00010000-\U0010ffff])[{self.high}])"


@cache
def characters(*categories: str, below: int = 0x110000, but: str = "", more: str = "") -> Class:
    """Gather the characters of some categories.

    Args:
        categories: such as ``Nd``, or the first letter of several, such as ``P``.
        below: leave out this code point and all above.
        but: leave out these.
        more: add these.
    """
    wanted = {code for plane in _ASSIGNED for code in plane if unicodedata.category(chr(code)).startswith(categories)}
    wanted = {code for code in wanted if code < below and chr(code) not in but} | {*map(ord, more)}
    return Class(_ranges(code for code in wanted if code < 0x10000), _ranges(code for code in wanted if code > 0xFFFF))


def _ranges(codes: Iterable[int]) -> str:
    found: list[list[int]] = []
    for code in sorted(codes):
        if found and found[-1][-1] == code - 1:
            found[-1][1:] = [code]
        else:
            found.append([code])
    return "".join("-".join(re.escape(chr(code)) for code in ends) for ends in found)


class Spaced:
    """Puts a space for each run of some characters.

    Args:
        which: the class of these characters; it has some below U+10000.
    """

    def __init__(self, which: Class) -> None:
        self._low = re.compile(f"[{which.low}]+")
        self._high = re.compile(f"[{which.high}]+") if which.high else None
        self._any_high = re.compile("[\U00010000-\U0010ffff]")

    def __call__(self, text: str) -> str:
        """Put the spaces."""
        text = self._low.sub(" ", text)
        return text if self._high is None or not self._any_high.search(text) else self._high.sub(" ", text)


JOINING = characters("M", more="\u200c\u200d")
"""What belongs to the character before it: marks, as Vietnamese in NFD and Hindi have them, and joiners."""
