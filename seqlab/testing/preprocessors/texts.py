"""What the checks of a preprocessor are made of."""

import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, Ragged, UserError
from seqlab.testing.inputs import check_defaults
from seqlab.testing.options import check_read
from seqlab.testing.suite import Suite, agree, demand

TEXTS = (
    "the cat sat on the mat", "a", "O'Neill-Smith 2", "naïve café", "Żółć gęślą jaźń", "Straße",
    "Αθήνα και Σπάρτη", "Привет, мир", "Nguyễn Đặng", "你好 世界", "こんにちは", "안녕하세요", "नमस्ते दुनिया",
    "مرحبا بالعالم", "שלום עולם", "สวัสดี", "👩\u200d👩\u200d👧 🇻🇳", "the mat sat on the cat",
)  # fmt: skip
"""What a preprocessor is fitted on unless its suite says otherwise: many scripts, in NFC."""
OFTEN = 3
"""How often each text is shown in fitting, for those that leave out what is rare."""

ANY = {
    "emoji joined by U+200D": "👨\u200d👩\u200d👧\u200d👦👍🏽🏳️\u200d🌈",
    "flags": "🇵🇱🇻🇳🇮🇪",
    "right to left, with marks of direction": "\u202bשלום abc\u202c \u200fمرحبا\u200e",
    "a pile of combining marks": "a" + "\u0301\u0323\u0308" * 20,
    "a combining mark alone": "\u0301",
    "NUL": "a\x00b",
    "U+2028 and U+0085": "a\u2028b\u2029c\x85d",
    "CRLF": "a\r\nb\rc\n",
    "a byte-order mark": "\ufeffabc",
    "an accent in NFC": "\u00e9\u1ec7",
    "an accent in NFD": "e\u0301e\u0323\u0302",
    "Hangul in parts": "\u1112\u1161\u11ab",
    "no character at all": "\uffff\ufdd0",
    "the last code point": "\U0010ffff",
    "U+FFFD itself": "a\ufffdb",
    "blanks alone": " \t\u00a0\u3000",
    "nothing to be seen": "\u200b\u2060\u00ad",
}
SURROGATES = {"a lone surrogate": "a\ud800b", "surrogates in the wrong order": "\udfff\ud800", "a byte": "\udc80"}
UNSEEN = "☃Ѫ鬱ꙮ𓀀ǂ"
RESERVED = (
    "<pad>", "[PAD]", "<unk>", "[UNK]", "<s> a </s>", "<bos>", "<eos>", "<|endoftext|>", "[CLS] [SEP] [MASK]",
    "PAD", "pad", "_", "▁", "##s", "\x00", "0", "1 0", "\ufffd",
)  # fmt: skip
"""What vocabularies call their special tokens, or write where there is none: texts like any other."""


class PreprocessorMaking(Suite):
    """Names a preprocessor and makes it ready for its checks; what is set is in :class:`.suite.PreprocessorSuite`."""

    preprocessor: ClassVar[Callable[..., Preprocessor]]
    options: ClassVar[Mapping[str, Any]] = {}
    texts: ClassVar[Sequence[str]] = TEXTS
    lossy: ClassVar[str] = ""
    patience: ClassVar[float] = 30.0

    def normalised(self, text: str) -> str:
        """Say what is to come back of a text whose symbols are all known, to have folding and cleaning checked.

        As long as a subclass does not, another text that has the same ids may come back.
        """
        return text

    def loses(self) -> str:
        """Say why texts do not come back, by the suite or by the preprocessor itself; empty if they do."""
        return type(self).lossy or self.make().lossy

    def make(self) -> Preprocessor:
        """Make the preprocessor, not fitted yet."""
        made = type(self).preprocessor(**self.options)
        demand(isinstance(made, Preprocessor), f"it is a {type(made).__name__}, and no seqlab.Preprocessor")
        return made

    def fitted(self, *more: str) -> Preprocessor:
        """Make the preprocessor and fit it on the suite's texts, and on more."""
        made = self.make()
        made.fit([*self.texts, *more] * OFTEN)
        return made

    def comes_back(self, preprocessor: Preprocessor, text: str) -> str:
        """Demand that a text comes back; say what comes instead where nobody said what is to come."""
        ids = ids_of(preprocessor, text)
        got, expected = preprocessor.decode(ids), self.normalised(text)
        if unicodedata.normalize("NFC", got) == unicodedata.normalize("NFC", expected):
            return ""
        fault = f"{short(text)} comes back as {short(got)}"
        declared = type(self).normalised is not PreprocessorMaking.normalised
        demand(not declared, f"{fault}, not as {short(expected)}, which normalised() says")
        shown = "\ufffd" in got and "\ufffd" not in text
        demand(not shown, f"{fault}, although training showed it; if it is meant, say why in the property `lossy`")
        demand(ids_of(preprocessor, got) == ids, f"{fault}, which has other ids")
        return fault


def ids_of(preprocessor: Preprocessor, text: str) -> list[int]:
    """Encode one text."""
    encoded = preprocessor.encode([text])
    check_form(encoded, 1)
    ids: list[int] = encoded.values.tolist()
    return ids


def check_form(encoded: Ragged, count: int) -> None:
    """Demand one sequence of int64 ids for each text."""
    demand(isinstance(encoded, Ragged), f"encode gives a {type(encoded).__name__}, and no Ragged")
    demand(len(encoded) == count, f"encode gives {len(encoded)} sequences for {count} texts")
    demand(encoded.values.dim() == 1, f"the ids have the shape {tuple(encoded.values.shape)}; one axis is right")
    for name, tensor in (("ids", encoded.values), ("lengths", encoded.lengths)):
        demand(tensor.dtype == torch.int64, f"the {name} of {count} texts are {tensor.dtype}, not torch.int64")


def same(what: str, actual: Ragged, expected: Ragged) -> None:
    """Demand that two encodings agree."""
    agree(f"{what}: the lengths", actual.lengths, expected.lengths)
    agree(f"{what}: the ids", actual.values, expected.values)


def short(text: str) -> str:
    """Show the beginning of a text."""
    shown = ascii(text) if any(0xD800 <= ord(c) <= 0xDFFF for c in text[:40]) else repr(text[:40])
    return f"{shown}..." if len(text) > 40 else shown


_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]


def spelled(number: int) -> str:
    """Write a number as a word of small letters, three syllables or more."""
    found = ""
    for _ in range(3):
        number, rest = divmod(number, len(_SYLLABLES))
        found += _SYLLABLES[rest]
    return found if not number else found + spelled(number)


_LONG = 100_000


class TextChecks(PreprocessorMaking):
    """Texts to ids and back."""

    # What it is -------------------------------------------------------------------------------------------------------

    def test_constructor_needs_nothing(self) -> None:
        """Every argument of the constructor has a default."""
        check_defaults(self.make())

    def test_options_are_read(self) -> None:
        """Each option of the constructor is read by something."""
        check_read(type(self.make()))

    def test_ids_are_in_range(self) -> None:
        """Ids are int64 from 1 to size - 1, 0 being padding, and the lengths are those of the texts in their order."""
        preprocessor = self.fitted()
        size = preprocessor.size
        demand(isinstance(size, int) and size >= 2, f"size is {size!r}; padding and unknown alone are 2")
        texts = [*self.texts, *ANY.values(), *RESERVED, UNSEEN, ""]
        check_range(preprocessor, texts)
        check_range(self.fitted(*RESERVED), texts)
        symbols = preprocessor.symbols
        whole = symbols is None or (len(symbols) == size and all(isinstance(symbol, str) for symbol in symbols))
        demand(whole, f"symbols must be a text for each of {size} ids, or None; here are {len(symbols or ())}")

    def test_texts_come_back(self) -> None:
        """The training texts come back from their ids, as far as the preprocessor does not normalise them."""
        if reason := self.loses():
            raise SkipTest(reason)
        twice = [" ".join(word for word in text.split() for _ in (0, 1)) for text in self.texts]
        preprocessor = self.fitted(*twice)
        faults = [fault for text in (*self.texts, *twice) if (fault := self.comes_back(preprocessor, text))]
        if faults:
            raise SkipTest(f"{faults[0]}, which has the same ids; a suite's normalised() can say whether that is meant")

    def test_reserved_names_are_texts(self) -> None:
        """A text that is written like the name of a special token comes back like any other that training showed."""
        if reason := self.loses():
            raise SkipTest(reason)
        preprocessor = self.fitted(*RESERVED)
        for text in RESERVED:
            ids = ids_of(preprocessor, text)
            meant = "unk" in text.lower() and ids == [preprocessor.unknown_id]  # as corpora write an unknown word
            if not meant and "\ufffd" not in text:
                self.comes_back(preprocessor, text)

    def test_unseen_symbols_are_unknown(self) -> None:
        """A symbol that training did not show has ``unknown_id``, which is in range and decodes to U+FFFD."""
        preprocessor = self.fitted()
        unknown, size = preprocessor.unknown_id, preprocessor.size
        demand(
            isinstance(unknown, int) and 0 < unknown < size, f"unknown_id is {unknown!r}; it must be 1 to {size - 1}"
        )
        shown = preprocessor.decode([unknown])
        demand("\ufffd" in shown, f"the unknown id decodes to {short(shown)}, without U+FFFD")
        seen = "".join(self.texts) + "".join(map(self.normalised, self.texts))
        if self.loses() and unknown not in ids_of(preprocessor, UNSEEN):
            raise SkipTest(f"{self.loses()}; no symbol is unknown to it")
        unseen = [symbol for symbol in UNSEEN if symbol not in seen and self.normalised(symbol)]
        if not unseen:
            raise SkipTest("no symbol was found that the texts do not have")
        for symbol in unseen:
            ids = ids_of(preprocessor, symbol)
            shown = preprocessor.decode(ids)
            if shown == self.normalised(symbol):
                continue  # it can write any symbol, seen or not
            if not ids and not ids_of(self.fitted(symbol), symbol):
                continue  # it is cleaned away, seen or not
            demand(unknown in ids, f"{symbol!r} was not seen, but has the ids {ids}, without unknown_id {unknown}")
            demand("\ufffd" in shown, f"{symbol!r} was not seen, but decodes to {short(shown)}, without U+FFFD")
            among = ids_of(preprocessor, f"{self.texts[0]} {symbol} {self.texts[0]}")
            demand(unknown in among, f"{symbol!r} among known symbols has no unknown_id {unknown}: {among[:20]}")

    def test_padding_is_left_out(self) -> None:
        """Zeros among the ids change nothing in what they decode to."""
        preprocessor = self.fitted()
        for text in self.texts:
            ids = ids_of(preprocessor, text)
            plain = preprocessor.decode(ids)
            among = [part for token in ids for part in (token, 0)]
            for where, padded in (("behind", [*ids, 0, 0]), ("before", [0, *ids]), ("among", among)):
                got = preprocessor.decode(padded)
                demand(got == plain, f"padding {where} the ids of {short(text)}: they decode to {short(got)}")

    # Which texts it takes ---------------------------------------------------------------------------------------------

    def test_empty_texts(self) -> None:
        """An empty text has length 0 and comes back empty; no texts give no sequences."""
        preprocessor = self.fitted()
        text = self.texts[0]
        mixed = preprocessor.encode(["", text, ""])
        check_form(mixed, 3)
        lengths = mixed.lengths.tolist()
        demand(lengths[0] == lengths[2] == 0, f"an empty text has the lengths {lengths[0]} and {lengths[2]}, not 0")
        check_empty_in_fit(self.make, self.texts)
        agree("the ids of a text among empty ones", mixed.values, preprocessor.encode([text]).values)
        for texts in ([""], []):
            check_form(preprocessor.encode(texts), len(texts))
        demand(preprocessor.decode([]) == "", f"no ids decode to {short(preprocessor.decode([]))}, and not to nothing")

    def test_any_text_is_taken(self) -> None:
        """No text crashes encode or decode; a lone surrogate may be refused with a ValueError that says so."""
        preprocessor = self.fitted()
        for what, text in (ANY | SURROGATES).items():
            for where, use in (("encode and decode", partial(_there_and_back, preprocessor)), ("fit", self.fitted)):
                try:
                    use(text)
                except AssertionError:
                    raise
                except Exception as error:
                    clear = isinstance(error, ValueError) and str(error) and what in SURROGATES
                    demand(clear, f"{where} crashes on {what} ({ascii(text)[:40]}): {type(error).__name__}: {error}")
        if not self.loses():
            preprocessor = self.fitted(*ANY.values())
            for text in ANY.values():
                self.comes_back(preprocessor, text)

    def test_long_text(self) -> None:
        """A text of 100,000 characters is encoded whole, in a reasonable time."""
        one = " ".join(self.texts)
        half = " ".join([one] * (1 + _LONG // (2 * len(one) + 2)))
        whole = f"{half} {half}"
        preprocessor = self.fitted(whole)
        since = time.perf_counter()
        ids = ids_of(preprocessor, whole)
        ids_of(preprocessor, self.texts[0].strip()[:1] * _LONG)
        spent = time.perf_counter() - since
        demand(spent < self.patience, f"{_LONG:,} characters took {spent:.1f} s; at most {self.patience} s is right")
        halves = len(ids_of(preprocessor, half))
        demand(
            len(ids) >= 1.9 * halves,
            f"{len(whole):,} characters have {len(ids):,} ids, their first half {halves:,}: the rest is cut off",
        )
        if not self.loses():
            self.comes_back(preprocessor, whole)


def check_range(preprocessor: Preprocessor, texts: Sequence[str]) -> None:
    """Demand of what texts are encoded to that the ids are those of symbols."""
    encoded = preprocessor.encode(texts)
    check_form(encoded, len(texts))
    for text, ids in zip(texts, torch.split(encoded.values, encoded.lengths.tolist()), strict=True):
        least, most = (int(ids.min()), int(ids.max())) if len(ids) else (1, 1)
        demand(least >= 1, f"{short(text)} has the id {least}; 0 is padding, and the least id of a symbol is 1")
        demand(most < preprocessor.size, f"{short(text)} has the id {most}, but size is {preprocessor.size}")


def check_empty_in_fit(make: Callable[[], Preprocessor], texts: Sequence[str]) -> None:
    """Demand that empty texts teach nothing, and that a split of them alone is fitted or refused with a message."""
    with_empty, without = make(), make()
    given = [*texts] * OFTEN
    with_empty.fit(["", *given, ""])
    without.fit(given)
    demand(with_empty.size == without.size, f"size is {with_empty.size} with empty texts in fit, else {without.size}")
    same("with empty texts in fit", with_empty.encode(texts), without.encode(texts))
    for what, none in (("an empty text alone", [""]), ("no text", [])):
        try:
            make().fit(none)
        except (ValueError, RuntimeError, UserError) as error:
            demand(str(error), f"fit refuses {what} without a message")
        except Exception as error:
            raise AssertionError(
                f"fit of {what} gives {type(error).__name__}, which tells nobody why: {error}"
            ) from error


def _there_and_back(preprocessor: Preprocessor, text: str) -> None:
    back = preprocessor.decode(ids_of(preprocessor, text))
    demand(isinstance(back, str), f"decode gives a {type(back).__name__}, and no text")


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
