"""Punctuation and digits."""

import re

from seqlab_preprocessing.steps.classes import JOINING, Spaced, characters

_INNER = "_'’"
"""What may stand inside a word."""

# Symbols of category So, most emoji among them, are left to the step emoji, and so are the skin tones beyond U+1F000.
_outer = Spaced(characters("P", "Sm", "Sc", "Sk", below=0x1F000, but=_INNER))
_digits = Spaced(characters("Nd", "No"))

# A run of inner marks goes unless it is underscores, or one apostrophe, between two letters.
_LETTER = rf"(?:[^\W_]|{JOINING.one})"
_ALONE = re.compile(rf"(?<![{_INNER}])(?=[{_INNER}])(?:(?<!{_LETTER})|(?!(?:_++|['’]){_LETTER}))[{_INNER}]++")


def punctuation(text: str) -> str:
    """Put a space for punctuation and for signs such as ``$``, ``+`` and ``<``, but not inside a word.

    ``_`` between letters stays, as it joins the syllables of Vietnamese words (``giới_thiệu``), and so does one
    apostrophe (``don't``).
    """
    return _ALONE.sub(" ", _outer(text))


def digits(text: str) -> str:
    """Put a space for digits of any script, raised ones and fractions included."""
    return _digits(text)
