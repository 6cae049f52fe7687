"""Preprocessors with one fault each."""

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from seqlab import Ragged

from .good_preprocessors import FIRST, UNKNOWN, Words


class NeedsItsSize(Words):
    def __init__(self, most: int) -> None:
        super().__init__()


class StartsAtPadding(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values - 1, encoded.lengths)

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode([token + 1 for token in ids])


class ForgetsPaddingInItsSize(Words):
    @property
    def size(self) -> int:
        return super().size - 1


class NarrowIds(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values.int(), encoded.lengths)


class LosesTheLastWord(Words):
    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids[:-1])


class UnseenIsTheFirstWord(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values.masked_fill(encoded.values == UNKNOWN, FIRST), encoded.lengths)


class UnknownIsPadding(Words):
    @property
    def unknown_id(self) -> int:
        return 0


class DropsUnknown(Words):
    def decode(self, ids: Sequence[int]) -> str:
        return super().decode([token for token in ids if token != UNKNOWN])


class ShowsPadding(Words):
    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("_" if token == 0 else Words.decode(self, [token]) for token in ids)


class StopsAtPadding(Words):
    def decode(self, ids: Sequence[int]) -> str:
        ids = list(ids)
        return super().decode(ids[: ids.index(0)] if 0 in ids else ids)


class EmptyIsUnknown(Words):
    def split(self, text: str) -> list[str]:
        return super().split(text) or [""]


class NoTextsCrash(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = [super(NoTextsCrash, self).encode([text]).values for text in texts]
        return Ragged(torch.cat(rows), torch.tensor([len(row) for row in rows]))


class NulCrashes(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        if any("\x00" in text for text in texts):
            raise KeyError("\x00")
        return super().encode(texts)


class MarksAreLost(Words):
    """A byte-order mark goes, and nobody is told."""

    def split(self, text: str) -> list[str]:
        return super().split(text.replace("\ufeff", ""))


class CutsLongTexts(Words):
    def split(self, text: str) -> list[str]:
        return super().split(text)[:512]


class LearnsWhileEncoding(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        known = set(self.words)
        self.words += sorted({word for text in texts for word in self.split(text)} - known)
        return super().encode(texts)


class Accumulates(Words):
    def fit(self, texts: Iterable[str]) -> None:
        super().fit([*self.words, *texts])


class FitsInTwoPasses(Words):
    def fit(self, texts: Iterable[str]) -> None:
        self.longest = max(len(text) for text in texts)
        super().fit(texts)


class AllIsUnknownAtFirst(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        self.words = self.words or ["?"]
        return super().encode(texts)


class SortsItsTexts(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        return super().encode(sorted(texts))


class LastOfTheBatchSuffers(Words):
    """The last word of a batch of several is unknown."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        if len(texts) > 1 and len(encoded.values):
            encoded.values[-1] = UNKNOWN
        return encoded


class CountsCalls(Words):
    """Ids depend on how often it was asked."""

    calls = 0

    def encode(self, texts: Sequence[str]) -> Ragged:
        self.calls += 1
        encoded = super().encode(texts)
        return Ragged((encoded.values + self.calls) % (self.size - 1) + 1, encoded.lengths)


class HashOrder(Words):
    def fit(self, texts: Iterable[str]) -> None:
        self.words = list({word for text in texts for word in self.split(text)})


class LowersInPlace(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        if isinstance(texts, list):
            texts[:] = [text.lower() for text in texts]
        return super().encode(texts)


class HoldsALock(Words):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


SHARED: list[str] = []


class SharesItsWords(Words):
    """All of them have one list of words."""

    def fit(self, texts: Iterable[str]) -> None:
        super().fit(texts)
        SHARED[:] = self.words
        self.words = []

    def encode(self, texts: Sequence[str]) -> Ragged:
        one = Words()
        one.words = SHARED
        return one.encode(texts)


class KeepsASet(Words):
    def state_dict(self) -> dict[str, Any]:
        return {"words": set(self.words)}


class KeepsNumbersAsKeys(Words):
    def state_dict(self) -> dict[str, Any]:
        return {"words": dict(enumerate(self.words))}


class KeepsSurrogates(Words):
    def fit(self, texts: Iterable[str]) -> None:
        self.words = sorted({word for text in texts for word in self.split(text)})


class LoadsInReverse(Words):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.words.reverse()


class BelievesAnything(Words):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.words = list(state.get("words", []))


class CrashesOnAStrangeState(Words):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        words = state["words"]
        super().load_state_dict({"words": words})


CAUGHT: list[tuple[type[Words], str]] = [
    (NeedsItsSize, "constructor_needs_nothing"),
    (StartsAtPadding, "ids_are_in_range"),
    (ForgetsPaddingInItsSize, "ids_are_in_range"),
    (NarrowIds, "ids_are_in_range"),
    (LosesTheLastWord, "texts_come_back"),
    (UnseenIsTheFirstWord, "unseen_symbols_are_unknown"),
    (UnknownIsPadding, "unseen_symbols_are_unknown"),
    (DropsUnknown, "unseen_symbols_are_unknown"),
    (ShowsPadding, "padding_is_left_out"),
    (StopsAtPadding, "padding_is_left_out"),
    (EmptyIsUnknown, "empty_texts"),
    (NoTextsCrash, "empty_texts"),
    (NulCrashes, "any_text_is_taken"),
    (MarksAreLost, "any_text_is_taken"),
    (CutsLongTexts, "long_text"),
    (LearnsWhileEncoding, "encoding_teaches_nothing"),
    (Accumulates, "fitting_again_forgets"),
    (FitsInTwoPasses, "fits_in_one_pass"),
    (AllIsUnknownAtFirst, "not_fitted_is_an_error"),
    (SortsItsTexts, "a_batch_is_its_texts"),
    (LastOfTheBatchSuffers, "a_batch_is_its_texts"),
    (CountsCalls, "same_texts_same_ids"),
    (HashOrder, "same_ids_in_another_process"),
    (LowersInPlace, "texts_are_left_alone"),
    (HoldsALock, "copies_and_pickles"),
    (SharesItsWords, "copies_and_pickles"),
    (KeepsASet, "state_is_plain_json"),
    (KeepsNumbersAsKeys, "state_is_plain_json"),
    (KeepsSurrogates, "state_is_plain_json"),
    (LoadsInReverse, "state_is_restored"),
    (BelievesAnything, "bad_states_are_refused"),
    (CrashesOnAStrangeState, "bad_states_are_refused"),
]
"""Each fault, and the check that must find it."""
