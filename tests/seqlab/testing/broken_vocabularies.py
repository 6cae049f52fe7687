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


class LosesTheLastBlock(Words, caught_by="many_texts"):
    """Texts behind the last full block of 256 are empty, where there is one."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        whole = len(texts) // 256 * 256 or len(texts)
        return super().encode([*texts[:whole], *[""] * (len(texts) - whole)])


class SortsLargeCalls(Words, caught_by="many_texts"):
    """By length, and forgets to put them back."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        return super().encode(sorted(texts, key=len) if len(texts) > 500 else texts)


class PadsLargeCalls(Words, caught_by="many_texts"):
    """With padding among the ids."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        if len(texts) < 1000:
            return encoded
        rows = torch.nn.utils.rnn.pad_sequence(rows_of(encoded), batch_first=True)
        return Ragged(rows.flatten(), torch.full((len(rows),), rows.shape[1]))


class CutsAtTheLongest(Words, caught_by="longer_than_any"):
    """Of the texts that it was fitted on."""

    longest = 0

    def fit(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        super().fit(texts)
        self.longest = max((len(self.split(text)) for text in texts), default=0)

    def encode(self, texts: Sequence[str]) -> Ragged:
        return Ragged.of([row[: self.longest] for row in rows_of(super().encode(texts))])


class FitsNoEmptyText(Words, caught_by="empty_texts"):
    def fit(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        if any(not text[0].isprintable() for text in texts):
            raise ValueError("a text begins with a control character")
        super().fit(texts)


class EmptyIsAWord(Words, caught_by="empty_texts"):
    def fit(self, texts: Iterable[str]) -> None:
        self.words = sorted({word for text in texts for word in (self.split(text) or [""]) if storable(word)})


class TiesByOrder(Words, caught_by="only_the_texts_decide"):
    """Words of equal frequency have the order of the texts."""

    def fit(self, texts: Iterable[str]) -> None:
        counts = Counter(word for text in texts for word in self.split(text) if storable(word))
        self.words = [word for word, _ in counts.most_common()]


class EightBits(Words, caught_by="many_texts"):
    """Ids of more than 8 bits begin anew."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        wrapped = torch.where(encoded.values > 255, encoded.values % 250 + FIRST, encoded.values)
        return Ragged(wrapped, encoded.lengths)


class NamesItsPadding(Words, caught_by="ids_are_in_range"):
    """A text that says <pad> has it."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = rows_of(super().encode(texts))
        for text, row in zip(texts, rows, strict=True):
            for place, word in enumerate(self.split(text)):
                if word == "<pad>":
                    row[place] = 0
        return Ragged.of(rows)


class DropsUnknownAmongKnown(Words, caught_by="unseen_symbols_are_unknown"):
    def encode(self, texts: Sequence[str]) -> Ragged:
        rows = rows_of(super().encode(texts))
        return Ragged.of([row[row != UNKNOWN] if bool((row != UNKNOWN).any()) else row for row in rows])


class RemembersByPrefix(Words, caught_by="texts_leave_nothing_behind"):
    """A cache whose key is the beginning of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[str]] = {}

    def split(self, text: str) -> list[str]:
        return self.seen.setdefault(text[:200], super().split(text)) if len(text) > 200 else super().split(text)


class RemembersByLength(Words, caught_by="texts_leave_nothing_behind"):
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


class RemembersEverything(Words, caught_by="texts_leave_nothing_behind"):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[str]] = {}

    def split(self, text: str) -> list[str]:
        if text not in self.seen:
            self.seen[text] = super().split(text)
        return self.seen[text]


class GivesItsBuffer(Words, caught_by="texts_are_left_alone"):
    """The next call writes over what this one gave."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        buffer = self.__dict__.setdefault("buffer", torch.zeros(100_000, dtype=torch.int64))
        if len(encoded.values) > len(buffer):
            return encoded
        buffer[: len(encoded.values)] = encoded.values
        return Ragged(buffer[: len(encoded.values)], encoded.lengths)


class KeepsTheList(Words, caught_by="texts_are_left_alone"):
    """Its words are counted when they are first asked for."""

    texts: Any = ()

    def fit(self, texts: Iterable[str]) -> None:
        self.texts = texts if isinstance(texts, list) else list(texts)
        self.words = []

    def encode(self, texts: Sequence[str]) -> Ragged:
        if not self.words:
            super().fit(self.texts)
        return super().encode(texts)


class DecodesInPlace(Words, caught_by="texts_are_left_alone"):
    def decode(self, ids: Sequence[int]) -> str:
        if isinstance(ids, list):
            while 0 in ids:
                ids.remove(0)
        return super().decode(ids)


class OneVocabularyForAll(Words, caught_by="instances_share_nothing"):
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


class LoadsASet(Words, caught_by="same_ids_in_another_process"):
    """The order of its words after loading is that of a set."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.words = list(set(self.words))


class KeepsMore(Frequent, caught_by="limits_are_kept"):
    """A word that training shows as often as asked for is unknown."""

    def chosen(self, counts: Counter[str]) -> list[str]:
        kept = [word for word, count in counts.items() if count > self.min_count or self.min_count == 1]
        return sorted(kept, key=lambda word: (-counts[word], word))[: self.max_size]


class KeepsTheRarest(Frequent, caught_by="limits_are_kept"):
    def chosen(self, counts: Counter[str]) -> list[str]:
        return super().chosen(counts) if self.max_size is None else sorted(counts)[: self.max_size]


class ForgetsItsLimit(Frequent, caught_by="limits_are_kept"):
    def chosen(self, counts: Counter[str]) -> list[str]:
        return sorted(word for word, count in counts.items() if count >= self.min_count)


class OneCaseLeavesPadding(Words, caught_by="every_option"):
    """An option that nobody tried."""

    def __init__(self, case: Literal["lower", "title"] = "lower") -> None:
        super().__init__()
        self.case = case

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return encoded if self.case == "lower" else Ragged(encoded.values - FIRST, encoded.lengths)


class OneSwitchForgets(Words, caught_by="every_option"):
    def __init__(self, marks: bool = False) -> None:
        super().__init__()
        self.marks = marks

    def split(self, text: str) -> list[str]:
        return [*super().split(text), "</s>"] if self.marks else super().split(text)


class DropsByTheBatch(Words, caught_by="dropped_says_why"):
    def dropped(self, texts: Sequence[str]) -> dict[int, str]:
        mean = sum(map(len, texts)) / max(1, len(texts))
        return {index: "long" for index, text in enumerate(texts) if len(text) > 2 * mean}


class StandsAloneInUpperCase(Words, caught_by="standalone_encodes_the_same"):
    def standalone(self) -> dict[str, str]:
        return {
            "encode.py": "def encoder(state):\n"
            "    ids = {word: 2 + index for index, word in enumerate(state['words'])}\n"
            "    return lambda text: [ids.get(word, 1) for word in text.split()]\n"
        }


register_export(StandsAloneInUpperCase, StandsAloneInUpperCase.standalone)


class SymbolsWithoutPadding(Words, caught_by="ids_are_in_range"):
    @property
    def symbols(self) -> tuple[str, ...]:
        return ("<unk>", *self.words)


class DropsWords(Words, caught_by="same_texts_same_ids"):
    """At random, as some do in training."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        return Ragged(encoded.values.masked_fill(torch.rand(len(encoded.values)) < 0.1, UNKNOWN), encoded.lengths)


class SeedsTorch(Words, caught_by="same_texts_same_ids"):
    def fit(self, texts: Iterable[str]) -> None:
        torch.manual_seed(0)
        super().fit(texts)


class FitsTheFirstTexts(Words, caught_by="many_texts"):
    def fit(self, texts: Iterable[str]) -> None:
        super().fit(text for place, text in enumerate(texts) if place < 100)


class DecodesWhatRepeatsOnce(Words, caught_by="texts_come_back"):
    def decode(self, ids: Sequence[int]) -> str:
        known = [token for token in ids if token]
        return super().decode([token for place, token in enumerate(known) if known[place - 1 : place] != [token]])


class BytesInOneByte(Bytes, caught_by="ids_are_in_range"):
    """The highest byte is out of range."""

    @property
    def size(self) -> int:
        return FIRST + 240


class DropsWhatIsEverywhere(Words, caught_by="a_batch_is_its_texts"):
    """Words that are in most texts of a call."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        found = Counter(word for text in texts for word in {*self.split(text)})
        often = {word for word, count in found.items() if count > max(9, 0.8 * len(texts))}
        return super().encode([" ".join(word for word in self.split(text) if word not in often) for text in texts])


class CleansTheGivenList(Words, caught_by="texts_are_left_alone"):
    """Where a text has blanks around it, and nowhere else."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        if isinstance(texts, list):
            texts[:] = [text.strip() for text in texts]
        return super().encode(texts)


class LoadsOnTop(Words, caught_by="state_is_restored"):
    """The words of a state come behind those that are known."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        known = list(self.words)
        super().load_state_dict(state)
        self.words = [*known, *(word for word in self.words if word not in known)]


class CutsLongWords(Words, caught_by="long_words"):
    """Behind the 16th letter."""

    def split(self, text: str) -> list[str]:
        return [word[:16] for word in super().split(text)]


class KeepsTheEndsOfWords(Words, caught_by="long_words"):
    """The last 64 letters."""

    def split(self, text: str) -> list[str]:
        return [word[-64:] for word in super().split(text)]


class TakesPaddingForUnknown(Words, caught_by="reserved_names_are_texts"):
    """A word that is written like the name of padding."""

    def encode(self, texts: Sequence[str]) -> Ragged:
        encoded = super().encode(texts)
        if "[pad]" in self.words:
            named = 2 + self.words.index("[pad]")
            return Ragged(encoded.values.masked_fill(encoded.values == named, UNKNOWN), encoded.lengths)
        return encoded


class OneTooMany(Frequent, caught_by="limits_are_kept"):
    """The limit is one short."""

    def fit(self, texts: Iterable[str]) -> None:
        limit = self.max_size
        self.max_size = None if limit is None else limit + 1
        try:
            super().fit(texts)
        finally:
            self.max_size = limit
