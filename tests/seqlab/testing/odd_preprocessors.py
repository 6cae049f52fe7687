"""Preprocessors that are right, and unlike those that are shipped: none of them may be accused."""

import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from seqlab import Preprocessor, Ragged

from .good_preprocessors import FIRST, UNKNOWN, Words, storable


class Frequent(Words):
    """Words that are frequent enough, and no more of them than asked for."""

    def __init__(self, min_count: int = 1, max_size: int | None = None) -> None:
        super().__init__()
        if min_count < 1 or (max_size is not None and max_size < 1):
            raise ValueError(f"min_count is {min_count} and max_size is {max_size}; both must be at least 1")
        self.min_count, self.max_size = min_count, max_size

    def fit(self, texts: Iterable[str]) -> None:
        self.words = self.chosen(Counter(word for text in texts for word in self.split(text) if storable(word)))
        if not self.words:
            raise ValueError(f"no word occurs {self.min_count} times")

    def chosen(self, counts: Counter[str]) -> list[str]:
        kept = [word for word, count in counts.items() if count >= self.min_count]
        return sorted(kept, key=lambda word: (-counts[word], word))[: self.max_size]


class Spelled(Frequent):
    """Words that are not among the frequent ones are spelled by their characters, which no limit leaves out."""

    def fit(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        super().fit(texts)
        signs = {sign for text in texts for word in self.split(text) if storable(word) for sign in word}
        self.words += sorted(f" {sign}" for sign in signs)

    def encode(self, texts: Sequence[str]) -> Ragged:
        super().encode([])
        ids = {word: FIRST + index for index, word in enumerate(self.words)}
        rows = []
        for text in texts:
            pieces = [[word] if word in ids else [f" {sign}" for sign in word] for word in self.split(text)]
            rows.append(torch.tensor([ids.get(piece, UNKNOWN) for each in pieces for piece in each], dtype=torch.int64))
        return Ragged.of(rows)


class Hashed(Preprocessor):
    """Each word is one of 50 by its checksum: nothing is learned, nothing is unknown, and nothing comes back."""

    lossy = "words of one checksum have one id"

    def fit(self, texts: Iterable[str]) -> None:
        for _ in texts:
            pass

    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = [[FIRST + zlib.crc32(word.encode("utf-8", "replace")) % 50 for word in text.split()] for text in texts]
        return Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("\ufffd" if token == UNKNOWN else f"#{token - FIRST}" for token in ids if token)

    @property
    def size(self) -> int:
        return FIRST + 50

    @property
    def unknown_id(self) -> int:
        return UNKNOWN

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise ValueError(f"checksums have no state, but here is {sorted(state)}")


class Letters(Words):
    """Characters of texts that are normalised: no accents, no upper case, no punctuation."""

    def split(self, text: str) -> list[str]:
        plain = unicodedata.normalize("NFKD", text).casefold()
        return [sign for sign in plain if not unicodedata.combining(sign) and (sign.isalnum() or sign == " ")]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("\ufffd" if token == UNKNOWN else self.words[token - FIRST] for token in ids if token)


class Marked(Words):
    """A token at the beginning of each text that is not empty, which is not shown."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        mark = torch.tensor([FIRST + len(self.words)])
        rows = encoded.values.split(encoded.lengths.tolist())
        return Ragged.of([torch.cat([mark, row]) if len(row) else row for row in rows])

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode([token for token in ids if token != FIRST + len(self.words)])

    @property
    def size(self) -> int:
        return super().size + 1


class Stemmed(Words):
    """Words without their endings, and without what is said everywhere."""

    def split(self, text: str) -> list[str]:
        return [word.removesuffix("s") for word in super().split(text) if word not in ("the", "on", "a")]


class Pairs(Words):
    """Pairs of neighbouring characters, the first one behind a mark."""

    def split(self, text: str) -> list[str]:
        return [before + sign for before, sign in zip(f"^{text}", text, strict=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("\ufffd" if token == UNKNOWN else self.words[token - FIRST][1] for token in ids if token)


class Remembers(Words):
    """Keeps what it split last, of a hundred texts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[str]] = {}

    def split(self, text: str) -> list[str]:
        if text not in self.seen:
            if len(self.seen) > 100:
                self.seen.clear()
            self.seen[text] = super().split(text)
        return self.seen[text]


RIGHT: list[Any] = [Frequent, Spelled, Hashed, Letters, Marked, Stemmed, Pairs, Remembers]
