"""Character tokens."""

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from seqlab import Choice, Ragged, SearchSpace, register_export
from seqlab_preprocessing import standalone
from seqlab_preprocessing.parallel import batches
from seqlab_preprocessing.pipeline import FIRST, STEPS, UNKNOWN, UNKNOWN_SYMBOL, Chain, Pipeline

_BATCH = 1 << 20  # characters that are encoded together


@final
class Characters(Pipeline):
    """Character tokens: code points after NFC.

    Ids: 0 padding, 1 unknown (characters that do not occur in training), then the vocabulary by code point, so that the
    order of the texts does not matter.

    Args:
        steps: text-cleaning steps, applied in this order: plugins in the entry-point group ``seqlab.steps``, such as
            ``ascii``.
        min_count: minimum count of a character in training; rarer ones are unknown.
        max_size: maximum number of characters, the most frequent ones; ``None``: no limit.

    Raises:
        ValueError: ``min_count`` or ``max_size`` is not positive, or a plugin is not a step.
        UserError: a step does not exist.
    """

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return case and Unicode steps, and the least count of a character."""
        return {"steps": STEPS, "min_count": Choice((1, 2))}

    def __init__(self, steps: Sequence[str] = (), min_count: int = 1, max_size: int | None = None) -> None:
        super().__init__(Chain(steps), min_count, max_size)
        self._symbols: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the characters; reads the texts once and keeps none.

        Raises:
            ValueError: there is none.
        """
        counts = np.zeros(0x110000, np.int64)
        for batch in batches(self.cleaned(texts), _BATCH):
            counted = np.bincount(_code_points(batch))
            counts[: len(counted)] += counted
        counts[0xD800:0xE000] = 0  # lone surrogates are not characters
        codes = np.flatnonzero(counts >= self.min_count)
        if not len(codes):
            raise ValueError(f"no character occurs at least {self.min_count} times in the training split")
        if self.max_size is not None:
            codes = np.sort(codes[np.argsort(-counts[codes], kind="stable")[: self.max_size]])
        self._learn(codes.astype(np.uint32))

    def _learn(self, symbols: NDArray[np.uint32]) -> None:
        self._symbols = symbols
        # One id for each code point up to the last known one, and an unknown one for all beyond.
        self._ids = np.full(int(symbols[-1]) + 2, UNKNOWN, np.int64)
        self._ids[symbols] = np.arange(FIRST, FIRST + len(symbols))

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode texts by table look-up."""
        self._check_fitted()
        lengths: list[int] = []
        ids = [np.zeros(0, np.int64)]
        for batch in batches(self.cleaned(texts), _BATCH):
            lengths += map(len, batch)
            ids.append(self._ids.take(_code_points(batch), mode="clip"))
        return Ragged(torch.from_numpy(np.concatenate(ids)), torch.tensor(lengths, dtype=torch.int64))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        table = np.concatenate([np.array([0, 0xFFFD], np.uint32), self._symbols])
        codes: bytes = table[self._known(ids)].astype("<u4").tobytes()
        return codes.decode("utf-32-le")

    @property
    def symbols(self) -> tuple[str, ...]:
        """Text of each token id: empty for padding, ``<unk>``, and the characters."""
        self._check_fitted()
        return "", UNKNOWN_SYMBOL, *map(chr, self._symbols.tolist())

    def _count(self) -> int:
        return FIRST + len(self._symbols)

    def standalone(self) -> dict[str, str] | None:
        """Return Python files that encode like this object with the standard library alone."""
        table = 'ids = {symbol: index for index, symbol in enumerate(state["symbols"], start=FIRST)}'
        return standalone.files(self.chain.steps, table=table, split="text")

    def state_dict(self) -> dict[str, Any]:
        """Return the vocabulary: ``{"symbols": [" ", "'", "A", ...]}``."""
        self._check_fitted()
        return {"symbols": [chr(code) for code in self._symbols.tolist()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if not isinstance(state, dict) or set(state) != {"symbols"}:
            raise ValueError("the state of characters must have the key symbols only")
        symbols = state["symbols"]
        if not isinstance(symbols, list) or not symbols:
            raise ValueError("symbols must be a list of at least one character")
        if not all(isinstance(symbol, str) and len(symbol) == 1 for symbol in symbols):
            raise ValueError("each of symbols must be one character")
        codes = np.array([ord(symbol) for symbol in symbols], np.uint32)
        if (codes[1:] <= codes[:-1]).any() or ((codes >= 0xD800) & (codes <= 0xDFFF)).any():
            raise ValueError("symbols must be distinct characters in the order of their code points")
        self._learn(codes)


register_export(Characters, Characters.standalone)


def _code_points(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Concatenate the code points of all texts; a lone surrogate, which is not a character, passes."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)
