"""Preprocessors with one fault each: ids, calls, state."""

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from seqlab import Ragged

from .good_preprocessors import FIRST, UNKNOWN, Words


class NeedsItsSize(Words, caught_by="constructor_needs_nothing"):
    def __init__(self, most: int) -> None:
        super().__init__()


class StartsAtPadding(Words, caught_by="ids_are_in_range"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values - 1, encoded.lengths)

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode([token + 1 for token in ids])


class ForgetsPaddingInItsSize(Words, caught_by="ids_are_in_range"):
    @property
    def size(self) -> int:
        return super().size - 1


class NarrowIds(Words, caught_by="ids_are_in_range"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values.int(), encoded.lengths)


class LosesTheLastWord(Words, caught_by="texts_come_back"):
    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids[:-1])


class UnseenIsTheFirstWord(Words, caught_by="unseen_symbols_are_unknown"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values.masked_fill(encoded.values == UNKNOWN, FIRST), encoded.lengths)


class UnknownIsPadding(Words, caught_by="unseen_symbols_are_unknown"):
    @property
    def unknown_id(self) -> int:
        return 0


class DropsUnknown(Words, caught_by="unseen_symbols_are_unknown"):
    def decode(self, ids: Sequence[int]) -> str:
        return super().decode([token for token in ids if token != UNKNOWN])


class ShowsPadding(Words, caught_by="padding_is_left_out"):
    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("_" if token == 0 else Words.decode(self, [token]) for token in ids)


class StopsAtPadding(Words, caught_by="padding_is_left_out"):
    def decode(self, ids: Sequence[int]) -> str:
        ids = list(ids)
        return super().decode(ids[: ids.index(0)] if 0 in ids else ids)


class EmptyIsUnknown(Words, caught_by="empty_texts"):
    def split(self, text: str) -> list[str]:
        return super().split(text) or [""]


class NoTextsCrash(Words, caught_by="empty_texts"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = [super(NoTextsCrash, self).encode([text]).values for text in texts]
        return Ragged(torch.cat(rows), torch.tensor([len(row) for row in rows]))


class NulCrashes(Words, caught_by="any_text_is_taken"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        if any("\x00" in text for text in texts):
            raise KeyError("\x00")
        return super().encode(texts)


class MarksAreLost(Words, caught_by="any_text_is_taken"):
    """A byte-order mark goes, and nobody is told."""

    def split(self, text: str) -> list[str]:
        return super().split(text.replace("\ufeff", ""))


class CutsLongTexts(Words, caught_by="long_text"):
    def split(self, text: str) -> list[str]:
        return super().split(text)[:512]


class LearnsWhileEncoding(Words, caught_by="encoding_teaches_nothing"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        known = set(self.words)
        self.words += sorted({word for text in texts for word in self.split(text)} - known)
        return super().encode(texts)


class Accumulates(Words, caught_by="only_the_texts_decide"):
    def fit(self, texts: Iterable[str]) -> None:
        super().fit([*self.words, *texts])


class FitsInTwoPasses(Words, caught_by="only_the_texts_decide"):
    def fit(self, texts: Iterable[str]) -> None:
        self.longest = max(len(text) for text in texts)
        super().fit(texts)


class AllIsUnknownAtFirst(Words, caught_by="not_fitted_is_an_error"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        self.words = self.words or ["?"]
        return super().encode(texts)


class SortsItsTexts(Words, caught_by="a_batch_is_its_texts"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        return super().encode(sorted(texts))


class LastOfTheBatchSuffers(Words, caught_by="a_batch_is_its_texts"):
    """The last word of a batch of several is unknown."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        if len(texts) > 1 and len(encoded.values):
            encoded.values[-1] = UNKNOWN
        return encoded


class CountsCalls(Words, caught_by="same_texts_same_ids"):
    """Ids depend on how often it was asked."""

    calls = 0

    def encode(self, texts: Sequence[str]) -> Ragged:
        self.calls += 1
        encoded = super().encode(texts)
        return Ragged((encoded.values + self.calls) % (self.size - 1) + 1, encoded.lengths)


class HashOrder(Words, caught_by="same_ids_in_another_process"):
    def fit(self, texts: Iterable[str]) -> None:
        self.words = list({word for text in texts for word in self.split(text)})


class LowersInPlace(Words, caught_by="texts_are_left_alone"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        if isinstance(texts, list):
            texts[:] = [text.lower() for text in texts]
        return super().encode(texts)


class HoldsALock(Words, caught_by="copies_and_pickles"):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


SHARED: list[str] = []


class SharesItsWords(Words, caught_by="copies_and_pickles"):
    """All of them have one list of words."""

    def fit(self, texts: Iterable[str]) -> None:
        super().fit(texts)
        SHARED[:] = self.words
        self.words = []

    def encode(self, texts: Sequence[str]) -> Ragged:
        one = Words()
        one.words = SHARED
        return one.encode(texts)


class KeepsASet(Words, caught_by="state_is_plain_json"):
    def state_dict(self) -> dict[str, Any]:
        return {"words": set(self.words)}


class KeepsNumbersAsKeys(Words, caught_by="state_is_plain_json"):
    def state_dict(self) -> dict[str, Any]:
        return {"words": dict(enumerate(self.words))}


class KeepsSurrogates(Words, caught_by="state_is_plain_json"):
    def fit(self, texts: Iterable[str]) -> None:
        self.words = sorted({word for text in texts for word in self.split(text)})


class LoadsInReverse(Words, caught_by="state_is_restored"):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.words.reverse()


class BelievesAnything(Words, caught_by="bad_states_are_refused"):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.words = list(state.get("words", []))


class CrashesOnAStrangeState(Words, caught_by="bad_states_are_refused"):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        words = state["words"]
        super().load_state_dict({"words": words})


class ForgetsALimit(Words, caught_by="options_are_read"):
    """Keeps an option that nothing reads."""

    def __init__(self, most_letters: int = 40) -> None:
        super().__init__()
        self.most_letters = most_letters
