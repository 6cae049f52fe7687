"""Byte pairs: how they are learned, and how words are encoded with them."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, final

import numpy as np

from seqlab_preprocessing.optional import needed

Merge: TypeAlias = tuple[str, str]

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = iter(range(0x100, 0x200))
ALPHABET = {chr(byte if byte in _PRINTABLE else next(_OTHERS)): byte for byte in range(256)}
"""The signs by which byte-level BPE writes bytes (GPT-2): themselves, and from U+0100 on those one cannot see."""

_BLANK = r"\ \t-\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SIGN = r"\x00-\x08\x0e-\x1f!-/:-@\[-`{-\x7f"  # of ASCII: neither blank, nor letter, nor digit
_LONGEST = 1_000  # characters in a word; in training the library takes square time for one
_MANY = f"{{1,{_LONGEST}}}"
_WORD = re.compile(
    rf"""
    '(?:[stmd]|re|ve|ll)
    | [ ]?(?:[A-Za-z]{_MANY}+|[0-9]{_MANY}+|[{_SIGN}]{_MANY}+)(?![^\x00-\x7f]) | [ ]?[^{_BLANK}]{_MANY}
    | [{_BLANK}]{_MANY}(?![^{_BLANK}]) | [{_BLANK}]
    """,
    re.VERBOSE,
)
"""What is encoded by itself. GPT-2's pattern parts letters, digits and signs, with the blank before them; ``re`` knows
these of ASCII, so that a run with others beside it stays whole. It is cut where GPT-2's pattern cuts, or at 1,000
characters."""
_TOO_LONG = re.compile(f"[^{_BLANK}]{{{_LONGEST}}}|[{_BLANK}]{{{_LONGEST}}}")
_BETWEEN = re.compile(f"(?<=[^{_BLANK}]) (?=[^{_BLANK}])")

_READ_AHEAD = 1 << 16  # characters in one item for training; tokenizers reads 256 items ahead
_REMEMBERED = 1 << 26  # bytes of words and their ids


def well_formed(text: str) -> str:
    """Put U+FFFD for lone surrogates, which UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def train(texts: Iterable[str], size: int) -> list[Merge]:
    """Find the pairs to join, in their order.

    Args:
        texts: what to learn from; read once.
        size: how many pieces there may be, the 256 bytes included.

    Raises:
        ValueError: there is no text.
    """
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(ALPHABET), show_progress=False)
    some = False

    def items() -> Iterator[str]:
        nonlocal some
        for text in texts:
            for item in _cut(text):
                some = some or bool(item)
                yield item

    tokenizer.train_from_iterator(items(), trainer)
    if not some:
        raise ValueError("there is no character in the training split")
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def _cut(text: str) -> Iterator[str]:
    """Cut a long text between two words, and words that are too long."""
    start = 0
    for too_long in _TOO_LONG.finditer(text):
        yield from _cut_between(text[start : too_long.end()])
        start = too_long.end()
    yield from _cut_between(text[start:])


def _cut_between(text: str) -> Iterator[str]:
    start = 0
    while cut := _BETWEEN.search(text, start + _READ_AHEAD):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def pieces_of(merges: Sequence[Merge]) -> list[str]:
    """List the pieces by id: bytes, then what is joined; two pairs may give the same."""
    return list(dict.fromkeys([*ALPHABET, *(left + right for left, right in merges)]))


@final
class Encoder:
    """Words to ids, remembered, as most words of a text occurred before.

    Args:
        merges: the pairs to join, in their order.
        first: the id of the first piece.
    """

    def __init__(self, merges: Sequence[Merge], first: int) -> None:
        self.merges, self.first = merges, first
        self._tokenizer: Any = None
        self._known: dict[str, bytes] = {}
        self._spent = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Encoder, (self.merges, self.first)

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """Give the ids of each text as bytes, eight an id."""
        words = [_WORD.findall(text) for text in texts]
        if new := list(set().union(*words).difference(self._known)):
            self._learn(new)
        find = self._known.__getitem__
        ids = [b"".join(map(find, found)) for found in words]
        if self._spent > _REMEMBERED:
            self._known, self._spent = {}, 0
        return ids

    def _learn(self, words: list[str]) -> None:
        if self._tokenizer is None:
            self._tokenizer = self._make()
        for word, encoded in zip(words, self._tokenizer.encode_batch_fast(words), strict=True):
            ids = np.array(encoded.ids, np.int64) + self.first
            self._known[word] = ids.tobytes()
            self._spent += 8 * len(ids) + 4 * len(word) + 200

    def _make(self) -> Any:
        library = _library()
        vocabulary = {piece: index for index, piece in enumerate(pieces_of(self.merges))}
        tokenizer = library.Tokenizer(library.models.BPE(vocabulary, list(self.merges)))
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tokenizer


def _library() -> Any:
    return needed("tokenizers", "preprocessing=bpe")


def _alone() -> None:
    """In a forked process tokenizers has no threads; said before it warns of that."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
