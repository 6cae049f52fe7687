"""Words and pairs of byte-level BPE by the standard library alone, which travel with an exported model."""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

Merge = tuple[str, str]

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = iter(range(0x100, 0x200))
ALPHABET = {chr(byte if byte in _PRINTABLE else next(_OTHERS)): byte for byte in range(256)}
"""Characters by which byte-level BPE writes bytes (GPT-2): themselves, or from U+0100 on for those not printable."""
_SIGN_OF = {byte: sign for sign, byte in ALPHABET.items()}

BLANK = r"\ \t-\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SIGN = r"\x00-\x08\x0e-\x1f!-/:-@\[-`{-\x7f"  # ASCII that is neither white space, nor letter, nor digit
LONGEST = 1_000  # characters in a word
_MANY = f"{{1,{LONGEST}}}"
WORD = re.compile(
    rf"""
    '(?:[stmd]|re|ve|ll)
    | [ ]?(?:[A-Za-z]{_MANY}+|[0-9]{_MANY}+|[{_SIGN}]{_MANY}+)(?![^\x00-\x7f]) | [ ]?[^{BLANK}]{_MANY}
    | [{BLANK}]{_MANY}(?![^{BLANK}]) | [{BLANK}]
    """,
    re.VERBOSE,
)
"""Words that are encoded separately. GPT-2's pattern separates letters, digits and signs, with the space before them;
``re`` knows those of ASCII, so that a run with other characters beside it stays whole. Text is split where GPT-2's
pattern splits it, or at 1,000 characters."""
_CONTRACTION = re.compile("'(?:[stmd]|re|ve|ll)")
_ANY_BLANK = re.compile(f"[{BLANK}]")


def well_formed(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, with U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def pieces_of(merges: Sequence[Merge]) -> list[str]:
    """List the pieces by id: bytes, then joined pairs; two pairs may give the same piece."""
    return list(dict.fromkeys([*ALPHABET, *(left + right for left, right in merges)]))


def tables(merges: Sequence[Sequence[str]], first: int) -> tuple[dict[str, int], dict[Merge, int]]:
    """Return the token id of each piece, and the rank of each pair."""
    pairs = [(left, right) for left, right in merges]
    ids = {piece: index for index, piece in enumerate(pieces_of(pairs), start=first)}
    return ids, {pair: rank for rank, pair in enumerate(pairs)}


def split(text: str, ranks: Mapping[Merge, int]) -> Iterator[str]:
    """Yield the pieces of a text."""
    for word in WORD.findall(well_formed(text)):
        for part in _parts(word):
            yield from _joined([_SIGN_OF[byte] for byte in part.encode("utf-8")], ranks)


def _parts(word: str) -> Iterator[str]:
    """Split as GPT-2's pattern does: contractions, then runs of letters, digits or signs with a space before them.

    Characters newer than Python's Unicode count as signs.
    """
    start = 0
    while start < len(word):
        if found := _CONTRACTION.match(word, start):
            end = found.end()
        else:
            begin = start + (word[start] == " " and start + 1 < len(word) and not _is_blank(word[start + 1]))
            kind, end = _kind(word[begin]), begin + 1
            while end < len(word) and _kind(word[end]) == kind:
                end += 1
            if kind == "blank" and end < len(word) and end > begin + 1:
                end -= 1  # the last one goes with what follows
        yield word[start:end]
        start = end


def _kind(sign: str) -> str:
    if _is_blank(sign):
        return "blank"
    kind = unicodedata.category(sign)[0]
    return kind if kind in "LN" else "sign"


def _is_blank(sign: str) -> bool:
    return _ANY_BLANK.match(sign) is not None


def _joined(pieces: list[str], ranks: Mapping[Merge, int]) -> list[str]:
    """Join the pair of the lowest rank, from the left, until no pair is known."""
    while len(pieces) > 1:
        best = min(itertools.pairwise(pieces), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined, place = [], 0
        while place < len(pieces):
            both = place + 1 < len(pieces) and (pieces[place], pieces[place + 1]) == best
            joined.append("".join(best) if both else pieces[place])
            place += 2 if both else 1
        pieces = joined
    return pieces
