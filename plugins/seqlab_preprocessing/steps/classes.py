"""Classes of characters for regular expressions, from Unicode's categories."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

_ASSIGNED = (range(0x34000), range(0xE0000, 0xE0200))
"""Where Unicode has characters that are not private; the planes between are empty."""


@cache
def characters(categories: tuple[str, ...], below: int = 0x110000) -> str:
    """Write the characters of some categories as ranges, to stand between ``[`` and ``]``.

    Args:
        categories: such as ``Nd``, or the first letter of several, such as ``P``.
        below: leave out this code point and all above.
    """
    return _ranges(lambda code: code < below and unicodedata.category(chr(code)).startswith(categories))


def _ranges(wanted: Callable[[int], bool]) -> str:
    found: list[list[int]] = []
    for plane in _ASSIGNED:
        for code in plane:
            if not wanted(code):
                continue
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return "".join("-".join(re.escape(chr(code)) for code in sorted({*pair})) for pair in found)


JOINING = characters(("M",)) + "\u200c\u200d"
"""What belongs to the character before it: marks, as Vietnamese in NFD and Hindi have them, and joiners."""
