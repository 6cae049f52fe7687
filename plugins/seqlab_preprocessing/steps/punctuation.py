"""Punctuation and digits."""

import re

from seqlab_preprocessing.steps.classes import JOINING, characters

_INNER = "_'’"
"""What may stand inside a word."""
_LETTER = rf"(?:[^\W_]|[{JOINING}])"

# Symbols of category So, most emoji among them, are left to the step emoji, and so are the skin tones beyond U+1F000.
_OUTER = re.compile(rf"(?:(?![{_INNER}])[{characters(('P', 'Sm', 'Sc', 'Sk'), below=0x1F000)}])+")

# A run of inner marks goes unless it is underscores, or one apostrophe, between two letters.
_ALONE = re.compile(rf"(?<![{_INNER}])(?:(?<!{_LETTER})|(?!(?:_++|['’]){_LETTER}))[{_INNER}]++")

_DIGITS = re.compile(f"[{characters(('Nd', 'No'))}]+")


def punctuation(text: str) -> str:
    """Put a space for punctuation and for signs such as ``$``, ``+`` and ``<``, but not inside a word.

    ``_`` between letters stays, as it joins the syllables of Vietnamese words (``giới_thiệu``), and so does one
    apostrophe (``don't``).
    """
    return _ALONE.sub(" ", _OUTER.sub(" ", text))


def digits(text: str) -> str:
    """Put a space for digits of any script, raised ones and fractions included."""
    return _DIGITS.sub(" ", text)
