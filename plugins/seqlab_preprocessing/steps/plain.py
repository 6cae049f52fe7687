"""Blanks, letter case and Unicode normalisation."""

from seqlab_preprocessing.steps.forms import normalised


def whitespace(text: str) -> str:
    """Make each run of blanks, line ends included, one space, and leave none at the ends."""
    return " ".join(text.split())


def lower(text: str) -> str:
    """Write letters small."""
    return text.lower()


def nfc(text: str) -> str:
    """Compose letters and their marks (Unicode NFC), as ``characters`` and ``words`` do in any case."""
    return normalised("NFC", text)


def nfkc(text: str) -> str:
    """Compose, and fold compatibility forms (Unicode NFKC): ``ﬁ`` to ``fi``, ``Ａ`` to ``A``, ``²`` to ``2``."""
    return normalised("NFKC", text)
