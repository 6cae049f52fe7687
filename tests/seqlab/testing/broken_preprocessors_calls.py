"""Preprocessors with one fault each that shows by other texts of a call, by a state loaded before, or by long words."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from seqlab import Ragged

from .good_preprocessors import UNKNOWN, Words
from .odd_preprocessors import Frequent


class DropsWhatIsEverywhere(Words):
    """Words that are in most texts of a call."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        found = Counter(word for text in texts for word in {*self.split(text)})
        often = {word for word, count in found.items() if count > max(9, 0.8 * len(texts))}
        return super().encode([" ".join(word for word in self.split(text) if word not in often) for text in texts])


class CleansTheGivenList(Words):
    """Where a text has blanks around it, and nowhere else."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        if isinstance(texts, list):
            texts[:] = [text.strip() for text in texts]
        return super().encode(texts)


class LoadsOnTop(Words):
    """The words of a state come behind those that are known."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        known = list(self.words)
        super().load_state_dict(state)
        self.words = [*known, *(word for word in self.words if word not in known)]


class CutsLongWords(Words):
    """Behind the 16th letter."""

    def split(self, text: str) -> list[str]:
        return [word[:16] for word in super().split(text)]


class KeepsTheEndsOfWords(Words):
    """The last 64 letters."""

    def split(self, text: str) -> list[str]:
        return [word[-64:] for word in super().split(text)]


class TakesPaddingForUnknown(Words):
    """A word that is written like the name of padding."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        if "[pad]" in self.words:
            named = 2 + self.words.index("[pad]")
            return Ragged(encoded.values.masked_fill(encoded.values == named, UNKNOWN), encoded.lengths)
        return encoded


class OneTooMany(Frequent):
    """The limit is one short."""

    def fit(self, texts: Iterable[str]) -> None:
        limit = self.max_size
        self.max_size = None if limit is None else limit + 1
        try:
            super().fit(texts)
        finally:
            self.max_size = limit


class ForgetsALimit(Words):
    """Keeps an option that nothing reads."""

    def __init__(self, longest: int = 40) -> None:
        super().__init__()
        self.longest = longest


CAUGHT: list[tuple[type[Any], str]] = [
    (DropsWhatIsEverywhere, "a_batch_is_its_texts"),
    (CleansTheGivenList, "texts_are_left_alone"),
    (LoadsOnTop, "loading_forgets"),
    (CutsLongWords, "long_words"),
    (KeepsTheEndsOfWords, "long_words"),
    (TakesPaddingForUnknown, "reserved_names_are_texts"),
    (OneTooMany, "limits_are_kept"),
    (ForgetsALimit, "options_are_read"),
]
"""Each fault, and the check that must find it."""
