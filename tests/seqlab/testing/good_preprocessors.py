"""Preprocessors that are right, and unlike the shipped ones."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from seqlab import Preprocessor, Ragged

from .faults import Fault

PADDING, UNKNOWN, FIRST = 0, 1, 2


class Bytes(Fault, Preprocessor):
    """Each byte of the text in UTF-8 is a token: there is nothing to learn, and nothing is ever unknown."""

    def fit(self, texts: Iterable[str]) -> None:
        for _ in texts:
            pass

    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = [torch.tensor(list(text.encode("utf-8")), dtype=torch.int64) + FIRST for text in texts]
        return Ragged.of(rows)

    def decode(self, ids: Sequence[int]) -> str:
        parts = b"".join("\ufffd".encode() if i == UNKNOWN else bytes([i - FIRST]) for i in ids if i != PADDING)
        return parts.decode("utf-8", "replace")

    @property
    def size(self) -> int:
        return FIRST + 256

    @property
    def unknown_id(self) -> int:
        return UNKNOWN

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise ValueError(f"bytes have no state, but here is {sorted(state)}")


class Words(Fault, Preprocessor):
    """Each word, in lower case, is a token; ids are in the order of the words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def split(self, text: str) -> list[str]:
        return text.lower().split()

    def fit(self, texts: Iterable[str]) -> None:
        self.words = sorted({word for text in texts for word in self.split(text) if storable(word)})

    def encode(self, texts: Sequence[str]) -> Ragged:
        if not self.words:
            raise RuntimeError("the words are not known yet; fit() or load_state_dict() comes first")
        ids = {word: FIRST + index for index, word in enumerate(self.words)}
        rows = [[ids.get(word, UNKNOWN) for word in self.split(text)] for text in texts]
        return Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("\ufffd" if token == UNKNOWN else self.words[token - FIRST] for token in ids if token)

    @property
    def size(self) -> int:
        return FIRST + len(self.words)

    @property
    def unknown_id(self) -> int:
        return UNKNOWN

    def state_dict(self) -> dict[str, Any]:
        return {"words": list(self.words)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"words"}:
            raise ValueError(f"words must have the state words alone, not {sorted(state)}")
        if not isinstance(state["words"], list) or not all(isinstance(word, str) for word in state["words"]):
            raise ValueError("words must be a list of texts")
        self.words = list(state["words"])


def storable(word: str) -> bool:
    """Whether UTF-8 can write it."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in word)


def lowered(text: str) -> str:
    return " ".join(text.lower().split())
