"""preprocessing=old_preprocessing: words in lower case."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from seqlab import Preprocessor, Ragged

PADDING, UNKNOWN, FIRST = 0, 1, 2
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which no file in UTF-8 can hold


class OldPreprocessing(Preprocessor):
    """Words in lower case, split at white space.

    Args:
        min_count: a word that training shows less often is unknown.

    Raises:
        ValueError: ``min_count`` is not positive.
    """

    plugin_api = 1

    def __init__(self, min_count: int = 1) -> None:
        if min_count < 1:
            raise ValueError(f"min_count is {min_count}; it must be at least 1")
        self.min_count = min_count
        self._words: list[str] = []
        self._ids: dict[str, int] = {}

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the words of the training split."""
        counts = Counter(word for text in texts for word in text.lower().split() if not SURROGATE.search(word))
        self._learn(sorted(word for word, count in counts.items() if count >= self.min_count))

    def _learn(self, words: list[str]) -> None:
        self._words, self._ids = words, {word: FIRST + index for index, word in enumerate(words)}

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Look the words up."""
        self._check_fitted()
        rows = [[self._ids.get(word, UNKNOWN) for word in text.lower().split()] for text in texts]
        return Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])

    def decode(self, ids: Sequence[int]) -> str:
        """Give back the words, one blank between two."""
        self._check_fitted()
        return " ".join(
            "\ufffd" if index == UNKNOWN else self._words[index - FIRST] for index in ids if index != PADDING
        )

    @property
    def size(self) -> int:
        """Number of token ids."""
        self._check_fitted()
        return FIRST + len(self._words)

    @property
    def unknown_id(self) -> int:
        """The id of every word that training did not show."""
        return UNKNOWN

    def state_dict(self) -> dict[str, Any]:
        """Give the vocabulary."""
        self._check_fitted()
        return {"words": list(self._words)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        words = state.get("words") if set(state) == {"words"} else None
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise ValueError("the state must be words, a list of texts")
        self._learn(words)

    def _check_fitted(self) -> None:
        if not self._words:
            raise ValueError("the vocabulary is not known yet; fit() or load_state_dict() comes first")
