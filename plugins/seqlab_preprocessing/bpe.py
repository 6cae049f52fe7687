"""Byte-pair tokens.

``tokenizers`` learns the pairs and joins them. Around it stand a split into words, whose ids are remembered because
most words of a text occurred before, and a limit on the length of a word, without which training takes quadratic time.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, final

import numpy as np
import torch

from seqlab import Choice, Ragged, SearchSpace
from seqlab_preprocessing.package_steps import optional_package
from seqlab_preprocessing.parallel import batches
from seqlab_preprocessing.pipeline import FIRST, STEPS, UNKNOWN_SYMBOL, Chain, Pipeline, check_at_least

Merge: TypeAlias = tuple[str, str]

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = iter(range(0x100, 0x200))
ALPHABET = {chr(byte if byte in _PRINTABLE else next(_OTHERS)): byte for byte in range(256)}
"""Characters by which byte-level BPE writes bytes (GPT-2): themselves, or from U+0100 on for those not printable."""

_BLANK = r"\ \t-\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SIGN = r"\x00-\x08\x0e-\x1f!-/:-@\[-`{-\x7f"  # ASCII that is neither white space, nor letter, nor digit
_LONGEST = 1_000  # characters in a word
_MANY = f"{{1,{_LONGEST}}}"
_WORD = re.compile(
    rf"""
    '(?:[stmd]|re|ve|ll)
    | [ ]?(?:[A-Za-z]{_MANY}+|[0-9]{_MANY}+|[{_SIGN}]{_MANY}+)(?![^\x00-\x7f]) | [ ]?[^{_BLANK}]{_MANY}
    | [{_BLANK}]{_MANY}(?![^{_BLANK}]) | [{_BLANK}]
    """,
    re.VERBOSE,
)
"""Words that are encoded separately. GPT-2's pattern separates letters, digits and signs, with the space before them;
``re`` knows those of ASCII, so that a run with other characters beside it stays whole. Text is split where GPT-2's
pattern splits it, or at 1,000 characters."""
_TOO_LONG = re.compile(f"[^{_BLANK}]{{{_LONGEST}}}|[{_BLANK}]{{{_LONGEST}}}")
_BETWEEN = re.compile(f"(?<=[^{_BLANK}]) (?=[^{_BLANK}])")

_BATCH = 1 << 20  # characters whose new words are encoded together
_READ_AHEAD = 1 << 16  # characters in one item for training; tokenizers reads 256 items ahead
_REMEMBERED = 1 << 26  # bytes of words and their ids


@final
class BPE(Pipeline):
    """Byte-level byte-pair encoding (Hugging Face tokenizers).

    Any text has ids, and decodes exactly. From the 256 bytes on, training repeatedly joins the most frequent pair of
    neighbours within a word (Sennrich et al. 2016; on bytes, as in GPT-2). Ids: 0 padding, 1 unknown, which no text
    has, then the bytes, then the joined pairs in order. Texts are not normalised; a lone surrogate, which UTF-8 cannot
    hold, becomes U+FFFD. Words of more than 1,000 characters are cut.

    Args:
        steps: text-cleaning steps, applied in this order: plugins in the entry-point group ``seqlab.steps``, such as
            ``nfc``.
        vocabulary_size: maximum number of token ids, padding and unknown included; at least 258.

    Raises:
        ValueError: ``vocabulary_size`` is too small, or a plugin is not a step.
        UserError: a step does not exist, or tokenizers is not installed.
    """

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return case and Unicode steps, and the size of the vocabulary."""
        return {"steps": STEPS, "vocabulary_size": Choice((2_000, 1_000, 4_000, 8_000))}

    def __init__(self, steps: Sequence[str] = (), vocabulary_size: int = 8_000) -> None:
        check_at_least("vocabulary_size", vocabulary_size, FIRST + len(ALPHABET))
        _library()
        super().__init__(Chain(steps, normalise=False))
        self.vocabulary_size = vocabulary_size
        self._pieces: list[bytes] = []
        self._encoder = Encoder([])

    def fit(self, texts: Iterable[str]) -> None:
        """Learn which pairs to join; reads the texts once and keeps the count of each word only.

        Raises:
            ValueError: there is no character.
        """
        self._learn(train(map(well_formed, self.cleaned(texts)), self.vocabulary_size - FIRST))

    def _learn(self, merges: Sequence[Merge]) -> None:
        self._encoder = Encoder(merges)
        self._pieces = [b"", "\ufffd".encode(), *(bytes(ALPHABET[sign] for sign in one) for one in pieces_of(merges))]

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode texts; a word that is remembered is not encoded again."""
        self._check_fitted()
        clean = map(well_formed, self.cleaned(texts))
        ids = [one for batch in batches(clean, _BATCH) for one in self._encoder.encode(batch)]
        lengths = torch.tensor([len(one) // 8 for one in ids], dtype=torch.int64)
        return Ragged(torch.from_numpy(np.frombuffer(bytearray().join(ids), np.int64)), lengths)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; bytes that are not UTF-8, as at a cut within a character, become U+FFFD."""
        return b"".join(self._pieces[index] for index in self._known(ids).tolist()).decode("utf-8", "replace")

    @property
    def symbols(self) -> tuple[str, ...]:
        r"""Text of each token id: empty for padding, ``<unk>``, and pieces; part of a character as ``\xe1``."""
        self._check_fitted()
        return "", UNKNOWN_SYMBOL, *(piece.decode("utf-8", "backslashreplace") for piece in self._pieces[FIRST:])

    def _count(self) -> int:
        return len(self._pieces)

    def state_dict(self) -> dict[str, Any]:
        """Return the joined pairs in order, one character a byte: ``{"merges": [["t", "h"], ...]}``."""
        self._check_fitted()
        return {"merges": [list(merge) for merge in self._encoder.merges]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if not isinstance(state, dict) or set(state) != {"merges"} or not isinstance(state["merges"], list):
            raise ValueError("the state of bpe must have the key merges only, a list")
        known = set(ALPHABET)
        merges: list[Merge] = []
        for merge in state["merges"]:
            pair = isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge)
            if not pair or not known.issuperset(merge):
                raise ValueError(f"merges must be pairs of earlier pieces, got {merge!a}")
            merges.append((merge[0], merge[1]))
            known.add(merge[0] + merge[1])
        if len({*merges}) != len(merges):
            raise ValueError("merges must be distinct")
        self._learn(merges)


def _library() -> Any:
    return optional_package("tokenizers", "preprocessing=bpe")


def well_formed(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, with U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def train(texts: Iterable[str], size: int) -> list[Merge]:
    """Return the pairs to join, in order.

    Args:
        texts: training texts; read once.
        size: maximum number of pieces, the 256 bytes included.

    Raises:
        ValueError: there is no character.
    """
    trainer = _library().trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(ALPHABET), show_progress=False)
    tokenizer = _tokenizer()
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


def _tokenizer(*model: Any) -> Any:
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE(*model))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _cut(text: str) -> Iterator[str]:
    """Cut a text within words that are too long, and a long text between two words."""
    start = 0
    for end in [*(found.end() for found in _TOO_LONG.finditer(text)), len(text)]:
        part, begin = text[start:end], 0
        while cut := _BETWEEN.search(part, begin + _READ_AHEAD):
            yield part[begin : cut.start()]
            begin = cut.start()
        yield part[begin:]
        start = end


def pieces_of(merges: Sequence[Merge]) -> list[str]:
    """List the pieces by id: bytes, then joined pairs; two pairs may give the same piece."""
    return list(dict.fromkeys([*ALPHABET, *(left + right for left, right in merges)]))


@final
class Encoder:
    """Encoder of words that remembers their ids.

    Args:
        merges: the pairs to join, in order.
    """

    def __init__(self, merges: Sequence[Merge]) -> None:
        self.merges = merges
        self._tokenizer: Any = None
        self._known: dict[str, bytes] = {}
        self._spent = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Encoder, (self.merges,)

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """Return the ids of each text as bytes, eight an id."""
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
            vocabulary = {piece: index for index, piece in enumerate(pieces_of(self.merges))}
            self._tokenizer = _tokenizer(vocabulary, list(self.merges))
        for word, encoded in zip(words, self._tokenizer.encode_batch_fast(words), strict=True):
            ids = np.array(encoded.ids, np.int64) + FIRST
            self._known[word] = ids.tobytes()
            self._spent += 8 * len(ids) + 4 * len(word) + 200


def _disable_threads() -> None:
    """Switch the threads of tokenizers off in a forked process, before it warns that it does so."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disable_threads)
