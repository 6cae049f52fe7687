"""One token a character."""

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from seqlab import Ragged, register_export
from seqlab_preprocessing import standalone
from seqlab_preprocessing.chain import Chain
from seqlab_preprocessing.pipeline import FIRST, UNKNOWN, UNKNOWN_SYMBOL, Pipeline, check_at_least, limits

_BATCH = 1 << 20  # characters that are looked at together


@final
class Characters(Pipeline):
    """Each character (code point, after NFC) is a token; those that training did not show are one unknown token.

    Ids: 0 padding, 1 unknown, then the vocabulary by code point, so that the same texts in any order give the same.

    Args:
        steps: what is done to each text first, in this order: names of plugins in the entry-point group
            ``seqlab.steps``, such as ``ascii``.
        min_count: a character that training shows less often counts as unknown.
        max_size: how many characters there may be, the most frequent ones; no limit if not given.

    Raises:
        ValueError: ``min_count`` or ``max_size`` is not positive, or a step is no function.
        UserError: there is no such step.
    """

    def __init__(self, steps: Sequence[str] = (), min_count: int = 1, max_size: int | None = None) -> None:
        check_at_least("min_count", min_count, 1)
        check_at_least("max_size", max_size, 1)
        super().__init__(Chain(steps))
        self.min_count, self.max_size = min_count, max_size
        self._symbols: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)

    def fit(self, texts: Iterable[str]) -> None:
        """Learn which characters there are; reads the texts once and keeps none.

        Raises:
            ValueError: there is none.
        """
        counts = np.zeros(0x110000, np.int64)
        for batch in _batches(self.cleaned(texts)):
            counted = np.bincount(_code_points(batch))
            counts[: len(counted)] += counted
        counts[0xD800:0xE000] = 0  # lone surrogates are no characters
        codes = np.flatnonzero(counts >= self.min_count)
        if not len(codes):
            raise ValueError(f"no character occurs at least {self.min_count} times in the training split")
        if self.max_size is not None:
            codes = np.sort(codes[np.argsort(-counts[codes], kind="stable")[: self.max_size]])
        self._learn(codes.astype(np.uint32))

    def _learn(self, symbols: NDArray[np.uint32]) -> None:
        self._symbols = symbols
        # One id for each code point up to the last one known, and an unknown one for all beyond.
        self._ids = np.full(int(symbols[-1]) + 2, UNKNOWN, np.int64)
        self._ids[symbols] = np.arange(FIRST, FIRST + len(symbols))

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Look all characters up, many at once."""
        self._check_fitted()
        lengths: list[int] = []
        ids = [np.zeros(0, np.int64)]
        for batch in _batches(self.cleaned(texts)):
            lengths += map(len, batch)
            codes = _code_points(batch)
            ids.append(self._ids.take(codes, mode="clip"))
        return Ragged(torch.from_numpy(np.concatenate(ids)), torch.tensor(lengths, dtype=torch.int64))

    def decode(self, ids: Sequence[int]) -> str:
        """Give back the text of token ids.

        Raises:
            ValueError: an id is none of this vocabulary's.
        """
        table = np.concatenate([np.array([0, 0xFFFD], np.uint32), self._symbols])
        codes: bytes = table[self._known(ids)].astype("<u4").tobytes()
        return codes.decode("utf-32-le")

    @property
    def symbols(self) -> tuple[str, ...]:
        """What each token id stands for: nothing, ``<unk>``, and the characters."""
        self._check_fitted()
        return "", UNKNOWN_SYMBOL, *map(chr, self._symbols.tolist())

    @property
    def lossy(self) -> str:
        """Which of ``min_count`` and ``max_size`` make tokens unknown."""
        return limits(self.min_count, self.max_size)

    def _count(self) -> int:
        return FIRST + len(self._symbols)

    def standalone(self) -> dict[str, str] | None:
        """Write Python files that encode as this does."""
        table = 'ids = {symbol: index for index, symbol in enumerate(state["symbols"], start=FIRST)}'
        return standalone.files(self.chain.steps, table=table, split="text")

    def state_dict(self) -> dict[str, Any]:
        """Give the vocabulary: ``{"symbols": [" ", "'", "A", ...]}``."""
        self._check_fitted()
        return {"symbols": [chr(code) for code in self._symbols.tolist()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: it is no vocabulary.
        """
        if not isinstance(state, dict) or set(state) != {"symbols"}:
            raise ValueError("the state of characters must have symbols, and nothing else")
        symbols = state["symbols"]
        if not isinstance(symbols, list) or not symbols:
            raise ValueError("symbols must be a list of at least one character")
        if not all(isinstance(symbol, str) and len(symbol) == 1 for symbol in symbols):
            raise ValueError("each of symbols must be one character")
        codes = np.array([ord(symbol) for symbol in symbols], np.uint32)
        if (codes[1:] <= codes[:-1]).any() or ((codes >= 0xD800) & (codes <= 0xDFFF)).any():
            raise ValueError("symbols must be characters in the order of their code points, each once")
        self._learn(codes)


register_export(Characters, Characters.standalone)


def _code_points(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Put the code points of all texts end to end; a lone surrogate, which is no character, passes."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
