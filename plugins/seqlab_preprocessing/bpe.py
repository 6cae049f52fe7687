"""Byte-pair tokens.

``tokenizers`` learns the pairs and joins them. Around it stand a split into words, whose ids are remembered because
most words of a text occurred before, and a limit on the length of a word, without which training takes quadratic time.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import numpy as np
import torch

from seqlab import Choice, Ragged, SearchSpace, register_export
from seqlab_preprocessing import byte_pairs, standalone
from seqlab_preprocessing.byte_pairs import ALPHABET, BLANK, LONGEST, WORD, Merge, pieces_of, well_formed
from seqlab_preprocessing.package_steps import optional_package
from seqlab_preprocessing.parallel import batches
from seqlab_preprocessing.pipeline import FIRST, STEPS, UNKNOWN_SYMBOL, Chain, Pipeline, check_at_least

_TOO_LONG = re.compile(f"[^{BLANK}]{{{LONGEST}}}|[{BLANK}]{{{LONGEST}}}")
_BETWEEN = re.compile(f"(?<=[^{BLANK}]) (?=[^{BLANK}])")

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

    def standalone(self) -> dict[str, str] | None:
        """Return Python files that encode like this object with the standard library alone."""
        table = 'ids, ranks = {}.tables(state["merges"], FIRST)'
        return standalone.files(
            self.chain.steps, table=table, split="{}.split(text, ranks)", module=byte_pairs, normalise=False
        )

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


register_export(BPE, BPE.standalone)


def _library() -> Any:
    return optional_package("tokenizers", "preprocessing=bpe")


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
        words = [WORD.findall(text) for text in texts]
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
