"""Preprocessors with one fault each that shows with many texts, long ones, other orders, options or processes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch

from seqlab import Ragged, register_export

from .good_preprocessors import FIRST, UNKNOWN, Bytes, Words, storable
from .odd_preprocessors import Frequent


def rows_of(encoded: Ragged) -> list[torch.Tensor]:
    return list(encoded.values.split(encoded.lengths.tolist()))


class LosesTheLastBlock(Words):
    """Texts behind the last full block of 256 are empty, where there is one."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        whole = len(texts) // 256 * 256 or len(texts)
        return super().encode([*texts[:whole], *[""] * (len(texts) - whole)])


class SortsLargeCalls(Words):
    """By length, and forgets to put them back."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        return super().encode(sorted(texts, key=len) if len(texts) > 500 else texts)


class PadsLargeCalls(Words):
    """With padding among the ids."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        if len(texts) < 1000:
            return encoded
        rows = torch.nn.utils.rnn.pad_sequence(rows_of(encoded), batch_first=True)
        return Ragged(rows.flatten(), torch.full((len(rows),), rows.shape[1]))


class CutsAtTheLongest(Words):
    """Of the texts that it was fitted on."""

    longest = 0

    def fit(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        super().fit(texts)
        self.longest = max((len(self.split(text)) for text in texts), default=0)

    def encode(self, texts: Sequence[str]) -> Ragged:
        return Ragged.of([row[: self.longest] for row in rows_of(super().encode(texts))])


class FitsNoEmptyText(Words):
    def fit(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        if any(not text[0].isprintable() for text in texts):
            raise ValueError("a text begins with a control character")
        super().fit(texts)


class EmptyIsAWord(Words):
    def fit(self, texts: Iterable[str]) -> None:
        self.words = sorted({word for text in texts for word in (self.split(text) or [""]) if storable(word)})


class TiesByOrder(Words):
    """Words of equal frequency have the order of the texts."""

    def fit(self, texts: Iterable[str]) -> None:
        counts = Counter(word for text in texts for word in self.split(text) if storable(word))
        self.words = [word for word, _ in counts.most_common()]


class EightBits(Words):
    """Ids of more than 8 bits begin anew."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        wrapped = torch.where(encoded.values > 255, encoded.values % 250 + FIRST, encoded.values)
        return Ragged(wrapped, encoded.lengths)


class NamesItsPadding(Words):
    """A text that says <pad> has it."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = rows_of(super().encode(texts))
        for text, row in zip(texts, rows, strict=True):
            for place, word in enumerate(self.split(text)):
                if word == "<pad>":
                    row[place] = 0
        return Ragged.of(rows)


class DropsUnknownAmongKnown(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = rows_of(super().encode(texts))
        return Ragged.of([row[row != UNKNOWN] if bool((row != UNKNOWN).any()) else row for row in rows])


class RemembersByPrefix(Words):
    """A cache whose key is the beginning of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[str]] = {}

    def split(self, text: str) -> list[str]:
        return self.seen.setdefault(text[:200], super().split(text)) if len(text) > 200 else super().split(text)


class RemembersByLength(Words):
    def encode(self, texts: Sequence[str]) -> Ragged:
        known = self.__dict__.setdefault("known", {})
        rows = [
            known.setdefault((len(text), text[-3:]), row)
            for text, row in zip(texts, rows_of(super().encode(texts)), strict=True)
        ]
        return Ragged.of(rows)

    def fit(self, texts: Iterable[str]) -> None:
        super().fit(texts)
        self.__dict__.pop("known", None)


class RemembersEverything(Words):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[str]] = {}

    def split(self, text: str) -> list[str]:
        if text not in self.seen:
            self.seen[text] = super().split(text)
        return self.seen[text]


class GivesItsBuffer(Words):
    """The next call writes over what this one gave."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        buffer = self.__dict__.setdefault("buffer", torch.zeros(100_000, dtype=torch.int64))
        if len(encoded.values) > len(buffer):
            return encoded
        buffer[: len(encoded.values)] = encoded.values
        return Ragged(buffer[: len(encoded.values)], encoded.lengths)


class KeepsTheList(Words):
    """Its words are counted when they are first asked for."""

    texts: Any = ()

    def fit(self, texts: Iterable[str]) -> None:
        self.texts = texts if isinstance(texts, list) else list(texts)
        self.words = []

    def encode(self, texts: Sequence[str]) -> Ragged:
        if not self.words:
            super().fit(self.texts)
        return super().encode(texts)


class DecodesInPlace(Words):
    def decode(self, ids: Sequence[int]) -> str:
        if isinstance(ids, list):
            while 0 in ids:
                ids.remove(0)
        return super().decode(ids)


class OneVocabularyForAll(Words):
    """It is an attribute of the class."""

    known: dict[str, int] = {}  # noqa: RUF012  # the fault

    def fit(self, texts: Iterable[str]) -> None:
        super().fit(texts)
        self.known.clear()
        self.known.update({word: FIRST + index for index, word in enumerate(self.words)})

    def encode(self, texts: Sequence[str]) -> Ragged:
        if not self.words:
            raise RuntimeError("the words are not known yet; fit() or load_state_dict() comes first")
        rows = [[self.known.get(word, UNKNOWN) for word in self.split(text)] for text in texts]
        return Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])


class LoadsASet(Words):
    """The order of its words after loading is that of a set."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.words = list(set(self.words))


class KeepsMore(Frequent):
    """A word that training shows as often as asked for is unknown."""

    def chosen(self, counts: Counter[str]) -> list[str]:
        kept = [word for word, count in counts.items() if count > self.min_count or self.min_count == 1]
        return sorted(kept, key=lambda word: (-counts[word], word))[: self.max_size]


class KeepsTheRarest(Frequent):
    def chosen(self, counts: Counter[str]) -> list[str]:
        return super().chosen(counts) if self.max_size is None else sorted(counts)[: self.max_size]


class ForgetsItsLimit(Frequent):
    def chosen(self, counts: Counter[str]) -> list[str]:
        return sorted(word for word, count in counts.items() if count >= self.min_count)


class OneCaseLeavesPadding(Words):
    """An option that nobody tried."""

    def __init__(self, case: Literal["lower", "title"] = "lower") -> None:
        super().__init__()
        self.case = case

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return encoded if self.case == "lower" else Ragged(encoded.values - FIRST, encoded.lengths)


class OneSwitchForgets(Words):
    def __init__(self, marks: bool = False) -> None:
        super().__init__()
        self.marks = marks

    def split(self, text: str) -> list[str]:
        return [*super().split(text), "</s>"] if self.marks else super().split(text)


class DropsByTheBatch(Words):
    def dropped(self, texts: Sequence[str]) -> dict[int, str]:
        mean = sum(map(len, texts)) / max(1, len(texts))
        return {index: "long" for index, text in enumerate(texts) if len(text) > 2 * mean}


class StandsAloneInUpperCase(Words):
    def standalone(self) -> dict[str, str]:
        return {
            "encode.py": "def encoder(state):\n"
            "    ids = {word: 2 + index for index, word in enumerate(state['words'])}\n"
            "    return lambda text: [ids.get(word, 1) for word in text.split()]\n"
        }


register_export(StandsAloneInUpperCase, StandsAloneInUpperCase.standalone)


class SymbolsWithoutPadding(Words):
    @property
    def symbols(self) -> tuple[str, ...]:
        return ("<unk>", *self.words)


class DropsWords(Words):
    """At random, as some do in training."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values.masked_fill(torch.rand(len(encoded.values)) < 0.1, UNKNOWN), encoded.lengths)


class SeedsTorch(Words):
    def fit(self, texts: Iterable[str]) -> None:
        torch.manual_seed(0)
        super().fit(texts)


class FitsTheFirstTexts(Words):
    def fit(self, texts: Iterable[str]) -> None:
        super().fit(text for place, text in enumerate(texts) if place < 100)


class DecodesWhatRepeatsOnce(Words):
    def decode(self, ids: Sequence[int]) -> str:
        known = [token for token in ids if token]
        return super().decode([token for place, token in enumerate(known) if known[place - 1 : place] != [token]])


class BytesInOneByte(Bytes):
    """The highest byte is out of range."""

    @property
    def size(self) -> int:
        return FIRST + 240


CAUGHT: list[tuple[type[Any], str]] = [
    (LosesTheLastBlock, "many_texts"),
    (SortsLargeCalls, "many_texts"),
    (PadsLargeCalls, "many_texts"),
    (EightBits, "many_texts"),
    (CutsAtTheLongest, "longer_than_any"),
    (FitsNoEmptyText, "empty_texts"),
    (EmptyIsAWord, "empty_texts"),
    (TiesByOrder, "order_of_texts_does_not_matter"),
    (NamesItsPadding, "ids_are_in_range"),
    (DropsUnknownAmongKnown, "unseen_symbols_are_unknown"),
    (RemembersByPrefix, "texts_leave_nothing_behind"),
    (RemembersByLength, "texts_leave_nothing_behind"),
    (RemembersEverything, "texts_leave_nothing_behind"),
    (GivesItsBuffer, "texts_are_left_alone"),
    (KeepsTheList, "texts_are_left_alone"),
    (DecodesInPlace, "texts_are_left_alone"),
    (OneVocabularyForAll, "instances_share_nothing"),
    (LoadsASet, "same_ids_in_another_process"),
    (KeepsMore, "limits_are_kept"),
    (KeepsTheRarest, "limits_are_kept"),
    (ForgetsItsLimit, "limits_are_kept"),
    (OneCaseLeavesPadding, "every_option"),
    (OneSwitchForgets, "every_option"),
    (DropsByTheBatch, "dropped_says_why"),
    (StandsAloneInUpperCase, "standalone_encodes_the_same"),
    (SymbolsWithoutPadding, "ids_are_in_range"),
    (SeedsTorch, "same_texts_same_ids"),
    (FitsTheFirstTexts, "many_texts"),
    (DecodesWhatRepeatsOnce, "texts_come_back"),
    (BytesInOneByte, "ids_are_in_range"),
    (DropsWords, "same_texts_same_ids"),
]
"""Each fault, and the check that must find it."""
