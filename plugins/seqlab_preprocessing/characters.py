"""One token a character."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from seqlab import Preprocessor, Ragged
from seqlab.discovery import find

_PADDING, _UNKNOWN, _FIRST = 0, 1, 2


@final
class Characters(Preprocessor):
    """Each character (code point, after NFC) is a token; those that training did not show are one unknown token.

    Ids: 0 padding, 1 unknown, then the vocabulary by code point, so that the same texts in any order give the same.

    Args:
        steps: what is done to each text first, in this order: names of plugins in the entry-point group
            ``seqlab.steps``, such as ``ascii``.
        min_count: a character that training shows less often counts as unknown.

    Raises:
        ValueError: ``min_count`` is not positive, or a step is no function.
        UserError: there is no such step.
    """

    def __init__(self, steps: Sequence[str] = (), min_count: int = 1) -> None:
        if min_count < 1:
            raise ValueError(f"min_count is {min_count}; it must be at least 1")
        if isinstance(steps, str):
            raise ValueError(f"steps is {steps!r}; it must be a list of names, such as [{steps}]")
        self.min_count = min_count
        self.steps = [_step(name) for name in steps]
        self._symbols: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)

    def fit(self, texts: Iterable[str]) -> None:
        """Learn which characters there are.

        Raises:
            ValueError: there is none.
        """
        codes, counts = np.unique(_code_points([self._prepared(text) for text in texts]), return_counts=True)
        codes = codes[(counts >= self.min_count) & ~_surrogate(codes)]
        if not len(codes):
            raise ValueError(f"no character occurs at least {self.min_count} times in the training split")
        self._learn(codes)

    def _learn(self, symbols: NDArray[np.uint32]) -> None:
        self._symbols = symbols
        # One id for each code point up to the last one known, and an unknown one for all beyond.
        self._ids = np.full(int(symbols[-1]) + 2, _UNKNOWN, np.int64)
        self._ids[symbols] = np.arange(_FIRST, _FIRST + len(symbols))

    def _prepared(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        for step in self.steps:
            text = step(text)
        return text

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Look all characters up at once."""
        self._check_fitted()
        prepared = [self._prepared(text) for text in texts]
        lengths = torch.tensor([len(text) for text in prepared], dtype=torch.int64)
        codes = np.minimum(_code_points(prepared), len(self._ids) - 1)
        return Ragged(torch.from_numpy(self._ids[codes]), lengths)

    def decode(self, ids: Sequence[int]) -> str:
        """Give back the text of token ids.

        Raises:
            ValueError: an id is none of this vocabulary's.
        """
        self._check_fitted()
        wanted = np.asarray(ids, np.int64).reshape(-1)
        wanted = wanted[wanted != _PADDING]
        if len(wanted) and not 0 < (wrong := int(wanted[np.abs(wanted - 1).argmax()])) < self.size:
            raise ValueError(f"{wrong} is no token id; there are 0 to {self.size - 1}")
        table = np.concatenate([np.array([0, 0xFFFD], np.uint32), self._symbols])
        codes: bytes = table[wanted].astype("<u4").tobytes()
        return codes.decode("utf-32-le")

    @property
    def size(self) -> int:
        """Number of token ids."""
        self._check_fitted()
        return _FIRST + len(self._symbols)

    @property
    def unknown_id(self) -> int:
        """The id of every character that is not in the vocabulary."""
        return _UNKNOWN

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
        if (codes[1:] <= codes[:-1]).any() or _surrogate(codes).any():
            raise ValueError("symbols must be characters in the order of their code points, each once")
        self._learn(codes)

    def _check_fitted(self) -> None:
        if not len(self._symbols):
            raise ValueError("the vocabulary is not known yet; fit() or load_state_dict() comes first")


def _step(name: str) -> Callable[[str], str]:
    step = find("step", name).load()
    if not callable(step):
        raise ValueError(f"steps: {name} is no function from text to text")
    return step  # type: ignore[no-any-return]  # an entry point can be anything


def _code_points(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Put the code points of all texts end to end; a lone surrogate, which is no character, passes."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def _surrogate(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return (codes >= 0xD800) & (codes <= 0xDFFF)
