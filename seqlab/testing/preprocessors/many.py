"""Checks with many texts, long ones, and large vocabularies."""

import time
from collections.abc import Sequence
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, Ragged
from seqlab.testing.preprocessors.making import UNSEEN, PreprocessorMaking, ids_of, same, short, spelled
from seqlab.testing.preprocessors.texts import check_range
from seqlab.testing.suite import demand

_MANY = 1100
_SIGNS = [chr(0x4E00 + index) for index in range(700)]
_LONG_WORDS = (20, 70, 300)
_TIMES = (2, 15, 16, 17, 33, 64, 100, 257, 1000)


class ManyChecks(PreprocessorMaking):
    """A thousand texts and more, of one token or of thousands."""

    def test_many_texts(self) -> None:
        """A thousand texts in a call have the ids that they have in small ones; fitting them gives each its own."""
        texts = _texts(self.texts)
        preprocessor = self.fitted()
        self._check_calls(preprocessor, texts)
        learned = self.make()
        since = time.perf_counter()
        words = [spelled(number) for number in range(_MANY)]
        learned.fit([*texts, *words, *_SIGNS])
        check_range(learned, texts)
        spent = time.perf_counter() - since
        demand(spent < self.patience, f"fitting and encoding {len(texts):,} texts took {spent:.1f} s")
        self._check_calls(learned, texts)
        if not self.loses():
            _check_distinct(learned, words, "words")
            _check_distinct(learned, _SIGNS, "signs")

    def test_long_words(self) -> None:
        """Long words of which training showed two are told apart, whether they differ at the beginning or the end."""
        if reason := self.loses():
            raise SkipTest(reason)
        for letters in _LONG_WORDS:
            middle = "".join(spelled(number) for number in range(letters))[:letters]
            pairs = (f"b{middle}", f"d{middle}"), (f"{middle}b", f"{middle}d")
            preprocessor = self.fitted(*pairs[0], *pairs[1])
            for one, other in pairs:
                demand(
                    ids_of(preprocessor, one) != ids_of(preprocessor, other) or not ids_of(preprocessor, one),
                    f"two words of {letters + 1} letters, one letter of which differs, have the same ids: is the rest"
                    " of a long word cut off? Say why in `lossy`, if it is meant",
                )

    @staticmethod
    def _check_calls(preprocessor: Preprocessor, texts: Sequence[str]) -> None:
        whole = preprocessor.encode(texts)
        demand(len(whole) == len(texts), f"encode gives {len(whole)} sequences for {len(texts)} texts")
        for size in (1, 16, 33, 400):
            cuts = range(0, len(texts), size) if size > 1 else range(0, len(texts), 23)
            for low in cuts:
                part = preprocessor.encode(texts[low : low + size])
                begin, steps = int(whole.starts[low]), int(whole.lengths[low : low + size].sum())
                expected = Ragged(whole.values[begin : begin + steps], whole.lengths[low : low + size])
                same(f"texts {low} to {low + size - 1} by themselves, against {len(texts):,} in a call", part, expected)

    def test_longer_than_any(self) -> None:
        """A text that is longer than any in training is encoded whole."""
        preprocessor = self.fitted()
        one = max(self.texts, key=len)
        for text in (one, UNSEEN):
            once, twice = (len(ids_of(preprocessor, " ".join([text] * times))) for times in (1, 2))
            more = max(twice - once, once // 2)
            for times in _TIMES:
                found = len(ids_of(preprocessor, " ".join([text] * times)))
                demand(
                    found >= 0.9 * times * more - 1,
                    f"{short(text)} has {once} ids, and {times} times over in a text {found}: the rest is cut off",
                )


def _texts(given: Sequence[str]) -> list[str]:
    """Give a thousand texts of unequal lengths, each word of which occurs once or twice, and all signs."""
    words = [spelled(number) for number in range(_MANY)]
    found = [" ".join(words[place : place + 1 + place % 5]) for place in range(_MANY - 120)]
    found += [f"{given[place % len(given)]} {words[-place - 1]}" for place in range(100)]
    found += ["", UNSEEN, *("".join(_SIGNS[at : at + 35]) for at in range(0, 700, 35))]
    return [*found, "".join(f"{sign} " for sign in _SIGNS), " ".join(words)]


def _check_distinct(preprocessor: Preprocessor, texts: Sequence[str], what: str) -> None:
    """Demand that nearly all have ids of their own; normalisation may make a few the same."""
    encoded = preprocessor.encode(texts)
    parts = [tuple(part.tolist()) for part in torch.split(encoded.values, encoded.lengths.tolist())]
    unknown = sum(preprocessor.unknown_id in part for part in parts)
    demand(
        10 * unknown <= len(parts),
        f"{unknown} of {len(parts)} {what} that training showed are unknown; say why in `lossy`, if it is meant",
    )
    known = [part for part in parts if part and preprocessor.unknown_id not in part]
    alike = len(known) - len({*known})
    demand(
        10 * alike <= len(known),
        f"{len(known)} different {what} that training showed have {len({*known})} encodings; say why in `lossy`",
    )
