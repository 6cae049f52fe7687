"""Checks of the ids that texts are encoded to, and of the texts that are decoded."""

import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, Ragged, UserError
from seqlab.testing.options import check_defaults, check_read
from seqlab.testing.suite import Suite, assert_close, require

TEXTS = (
    "the cat sat on the mat", "a", "O'Neill-Smith 2", "naïve café", "Żółć gęślą jaźń", "Straße",
    "Αθήνα και Σπάρτη", "Привет, мир", "Nguyễn Đặng", "你好 世界", "こんにちは", "안녕하세요", "नमस्ते दुनिया",
    "مرحبا بالعالم", "שלום עולם", "สวัสดี", "👩\u200d👩\u200d👧 🇻🇳", "the mat sat on the cat",
)  # fmt: skip
"""The default training texts: many scripts, in NFC."""
OFTEN = 3
"""Copies of each text in fitting, for preprocessors that omit rare tokens."""

ANY = {
    "emoji joined by U+200D": "👨\u200d👩\u200d👧\u200d👦👍🏽🏳️\u200d🌈",
    "flags": "🇵🇱🇻🇳🇮🇪",
    "right to left, with marks of direction": "\u202bשלום abc\u202c \u200fمرحبا\u200e",
    "many combining marks": "a" + "\u0301\u0323\u0308" * 20,
    "a combining mark alone": "\u0301",
    "NUL": "a\x00b",
    "U+2028 and U+0085": "a\u2028b\u2029c\x85d",
    "CRLF": "a\r\nb\rc\n",
    "a byte-order mark": "\ufeffabc",
    "an accent in NFC": "\u00e9\u1ec7",
    "an accent in NFD": "e\u0301e\u0323\u0302",
    "decomposed Hangul": "\u1112\u1161\u11ab",
    "no character at all": "\uffff\ufdd0",
    "the last code point": "\U0010ffff",
    "U+FFFD itself": "a\ufffdb",
    "white space alone": " \t\u00a0\u3000",
    "invisible characters": "\u200b\u2060\u00ad",
}
SURROGATES = {"a lone surrogate": "a\ud800b", "surrogates in the wrong order": "\udfff\ud800", "a byte": "\udc80"}
UNSEEN = "☃Ѫ鬱ꙮ𓀀ǂ"
RESERVED = (
    "<pad>", "[PAD]", "<unk>", "[UNK]", "<s> a </s>", "<bos>", "<eos>", "<|endoftext|>", "[CLS] [SEP] [MASK]",
    "PAD", "pad", "_", "▁", "##s", "\x00", "0", "1 0", "\ufffd",
)  # fmt: skip
"""Names of special tokens in vocabularies, or marks of missing ones: texts like any other."""


class PreprocessorBase(Suite):
    """Makes the preprocessor of a :class:`seqlab.testing.PreprocessorSuite`."""

    preprocessor: ClassVar[Callable[..., Preprocessor]]
    options: ClassVar[Mapping[str, Any]] = {}
    texts: ClassVar[Sequence[str]] = TEXTS
    lossy: ClassVar[str] = ""
    patience: ClassVar[float] = 30.0

    def normalised(self, text: str) -> str:
        """Return what ``decode`` must return for a text of known symbols; override it to check normalisation.

        Unless a subclass does, another text that has the same ids is accepted.
        """
        return text

    def loses(self) -> str:
        """Return why texts cannot be decoded, by the suite or by the preprocessor; empty if they can."""
        return type(self).lossy or self.make().lossy

    def make(self) -> Preprocessor:
        """Return a new preprocessor, not fitted."""
        made = type(self).preprocessor(**self.options)
        require(isinstance(made, Preprocessor), f"it is a {type(made).__name__}, not a seqlab.Preprocessor")
        return made

    def fitted(self, *more: str) -> Preprocessor:
        """Return a new preprocessor, fitted on the suite's texts and on more."""
        made = self.make()
        made.fit([*self.texts, *more] * OFTEN)
        return made

    def check_decoded(self, preprocessor: Preprocessor, text: str) -> str:
        """Require a text to be decoded; return how it differs where ``normalised`` is not overridden."""
        ids = ids_of(preprocessor, text)
        got, expected = preprocessor.decode(ids), self.normalised(text)
        if unicodedata.normalize("NFC", got) == unicodedata.normalize("NFC", expected):
            return ""
        fault = f"{short(text)} comes back as {short(got)}"
        overridden = type(self).normalised is not PreprocessorBase.normalised
        require(not overridden, f"{fault}, not as {short(expected)}, which normalised() returns")
        unknown = "\ufffd" in got and "\ufffd" not in text
        require(not unknown, f"{fault}, although training showed it; if this is intended, explain it in `lossy`")
        require(ids_of(preprocessor, got) == ids, f"{fault}, which has other ids")
        return fault


def ids_of(preprocessor: Preprocessor, text: str) -> list[int]:
    """Encode one text."""
    encoded = preprocessor.encode([text])
    check_form(encoded, 1)
    ids: list[int] = encoded.values.tolist()
    return ids


def check_form(encoded: Ragged, count: int) -> None:
    """Require one sequence of int64 ids for each text."""
    require(isinstance(encoded, Ragged), f"encode returns a {type(encoded).__name__}, not a seqlab.Ragged")
    require(len(encoded) == count, f"encode returns {len(encoded)} sequences for {count} texts")
    require(encoded.values.dim() == 1, f"the ids have the shape {tuple(encoded.values.shape)}; they need one axis")
    for name, tensor in (("ids", encoded.values), ("lengths", encoded.lengths)):
        require(tensor.dtype == torch.int64, f"the {name} of {count} texts are {tensor.dtype}, not torch.int64")


def same(what: str, actual: Ragged, expected: Ragged) -> None:
    """Require two encodings to agree."""
    assert_close(f"{what}: the lengths", actual.lengths, expected.lengths)
    assert_close(f"{what}: the ids", actual.values, expected.values)


def same_state(what: str, actual: Preprocessor, expected: Preprocessor, texts: Sequence[str]) -> None:
    """Require two preprocessors to have the same size, state and encodings."""
    require(actual.size == expected.size, f"{what}: size is {actual.size}, not {expected.size}")
    require(actual.unknown_id == expected.unknown_id, f"{what}: unknown_id is another one")
    same(what, actual.encode(texts), expected.encode(texts))
    require(actual.state_dict() == expected.state_dict(), f"{what}: state_dict() differs")


def short(text: str) -> str:
    """Return the beginning of a text, quoted."""
    quoted = ascii(text) if any(0xD800 <= ord(c) <= 0xDFFF for c in text[:40]) else repr(text[:40])
    return f"{quoted}..." if len(text) > 40 else quoted


_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]


def number_word(number: int) -> str:
    """Write a number as a word of lower-case letters, three syllables or more."""
    found = ""
    for _ in range(3):
        number, rest = divmod(number, len(_SYLLABLES))
        found += _SYLLABLES[rest]
    return found if not number else found + number_word(number)


_LONG = 100_000


class TextChecks(PreprocessorBase):
    """Texts are encoded to ids and decoded."""

    def test_constructor_needs_nothing(self) -> None:
        """Every argument of the constructor has a default."""
        check_defaults(self.make())

    def test_options_are_read(self) -> None:
        """Each option of the constructor is read by something."""
        check_read(type(self.make()))

    def test_ids_are_in_range(self) -> None:
        """Ids are int64 from 1 to size - 1, 0 being padding, and the lengths are those of the texts in their order."""
        preprocessor = self.fitted()
        size, symbols = preprocessor.size, preprocessor.symbols
        require(isinstance(size, int) and size >= 2, f"size is {size!r}; padding and unknown alone are 2")
        texts = [*self.texts, *ANY.values(), *RESERVED, UNSEEN, ""]
        _check_range(preprocessor, texts)
        _check_range(self.fitted(*RESERVED), texts)
        whole = symbols is None or (len(symbols) == size and all(isinstance(symbol, str) for symbol in symbols))
        require(whole, f"symbols must be a text for each of {size} ids, or None; it has {len(symbols or ())}")

    def test_texts_come_back(self) -> None:
        """The training texts are decoded from their ids, as far as the preprocessor does not normalise them."""
        if reason := self.loses():
            raise SkipTest(reason)
        twice = [" ".join(word for word in text.split() for _ in (0, 1)) for text in self.texts]
        preprocessor = self.fitted(*twice)
        faults = [fault for text in (*self.texts, *twice) if (fault := self.check_decoded(preprocessor, text))]
        if faults:
            raise SkipTest(f"{faults[0]}, which has the same ids; override normalised() to check if this is intended")

    def test_reserved_names_are_texts(self) -> None:
        """A text that is written like the name of a special token is decoded like any other training text."""
        if reason := self.loses():
            raise SkipTest(reason)
        preprocessor = self.fitted(*RESERVED)
        for text in RESERVED:
            meant = "unk" in text.lower() and ids_of(preprocessor, text) == [preprocessor.unknown_id]  # as in corpora
            if not meant and "\ufffd" not in text:
                self.check_decoded(preprocessor, text)

    def test_unseen_symbols_are_unknown(self) -> None:
        """A symbol that training did not show has ``unknown_id``, which is in range and decodes to U+FFFD."""
        preprocessor = self.fitted()
        unknown, size = preprocessor.unknown_id, preprocessor.size
        right = isinstance(unknown, int) and 0 < unknown < size
        require(right, f"unknown_id is {unknown!r}; it must be 1 to {size - 1}")
        decoded = preprocessor.decode([unknown])
        require("\ufffd" in decoded, f"the unknown id decodes to {short(decoded)}, without U+FFFD")
        seen = "".join(self.texts) + "".join(map(self.normalised, self.texts))
        if self.loses() and unknown not in ids_of(preprocessor, UNSEEN):
            raise SkipTest(f"{self.loses()}; no symbol is unknown to it")
        unseen = [symbol for symbol in UNSEEN if symbol not in seen and self.normalised(symbol)]
        if not unseen:
            raise SkipTest("no symbol was found that the texts do not have")
        for symbol in unseen:
            ids = ids_of(preprocessor, symbol)
            decoded = preprocessor.decode(ids)
            if decoded == self.normalised(symbol):
                continue  # it can write any symbol, seen or not
            if not ids and not ids_of(self.fitted(symbol), symbol):
                continue  # it is cleaned away, seen or not
            require(unknown in ids, f"{symbol!r} was not seen, but has the ids {ids}, without unknown_id {unknown}")
            require("\ufffd" in decoded, f"{symbol!r} was not seen, but decodes to {short(decoded)}, without U+FFFD")
            among = ids_of(preprocessor, f"{self.texts[0]} {symbol} {self.texts[0]}")
            require(unknown in among, f"{symbol!r} among known symbols has no unknown_id {unknown}: {among[:20]}")

    def test_padding_is_left_out(self) -> None:
        """Zeros among the ids do not change what they decode to."""
        preprocessor = self.fitted()
        for text in self.texts:
            ids = ids_of(preprocessor, text)
            plain = preprocessor.decode(ids)
            among = [part for token in ids for part in (token, 0)]
            for where, padded in (("after", [*ids, 0, 0]), ("before", [0, *ids]), ("among", among)):
                got = preprocessor.decode(padded)
                require(got == plain, f"padding {where} the ids of {short(text)}: they decode to {short(got)}")

    def test_empty_texts(self) -> None:
        """An empty text has length 0 and decodes to an empty text; no texts give no sequences."""
        preprocessor = self.fitted()
        text = self.texts[0]
        mixed = preprocessor.encode(["", text, ""])
        check_form(mixed, 3)
        lengths = mixed.lengths.tolist()
        require(lengths[0] == lengths[2] == 0, f"an empty text has the lengths {lengths[0]} and {lengths[2]}, not 0")
        assert_close("the ids of a text among empty ones", mixed.values, preprocessor.encode([text]).values)
        for texts in ([""], []):
            check_form(preprocessor.encode(texts), len(texts))
        decoded = preprocessor.decode([])
        require(decoded == "", f"no ids decode to {short(decoded)}, not to an empty text")
        self._check_empty_in_fit()

    def _check_empty_in_fit(self) -> None:
        """Require ``fit`` to learn nothing from empty texts, and to accept no others or refuse them with a message."""
        with_empty, without = self.make(), self.make()
        given = [*self.texts] * OFTEN
        with_empty.fit(["", *given, ""])
        without.fit(given)
        require(with_empty.size == without.size, f"size is {with_empty.size} with empty texts, else {without.size}")
        same("with empty texts in fit", with_empty.encode(self.texts), without.encode(self.texts))
        for what, none in (("an empty text alone", [""]), ("no text", [])):
            with _clear_error(f"fit of {what}"):
                self.make().fit(none)

    def test_not_fitted_is_an_error(self) -> None:
        """Before it is fitted, ``encode`` raises an error that says so, unless it needs no fitting."""
        encoded: Ragged | None = None
        with _clear_error("encode before fit"):
            encoded = self.make().encode(self.texts)
        if encoded is not None:
            same("encode before fit, without an error,", encoded, self.fitted().encode(self.texts))

    def test_any_text_is_taken(self) -> None:
        """No text crashes encode or decode; a lone surrogate may be refused with a ValueError that says so."""
        preprocessor = self.fitted()
        for what, text in (ANY | SURROGATES).items():
            for where, use in (("encode and decode", partial(_encode_and_decode, preprocessor)), ("fit", self.fitted)):
                try:
                    use(text)
                except AssertionError:
                    raise
                except Exception as error:
                    clear = isinstance(error, ValueError) and str(error) and what in SURROGATES
                    require(clear, f"{where} crashes on {what} ({ascii(text)[:40]}): {type(error).__name__}: {error}")
        if not self.loses():
            preprocessor = self.fitted(*ANY.values())
            for text in ANY.values():
                self.check_decoded(preprocessor, text)

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
        require(spent < self.patience, f"{_LONG:,} characters took {spent:.1f} s; at most {self.patience} s is allowed")
        halves, counts = len(ids_of(preprocessor, half)), f"{len(whole):,} characters have {len(ids):,} ids"
        require(len(ids) >= 1.9 * halves, f"{counts}, their first half {halves:,}: the rest is cut off")
        if not self.loses():
            self.check_decoded(preprocessor, whole)


@contextmanager
def _clear_error(what: str) -> Iterator[None]:
    """Allow an error that says what is wrong."""
    try:
        yield
    except (ValueError, RuntimeError, UserError) as error:
        require(str(error), f"{what} raises {type(error).__name__} without a message")
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__}, which does not say why: {error}") from error


def _check_range(preprocessor: Preprocessor, texts: Sequence[str]) -> None:
    """Require the ids of texts to be those of symbols."""
    encoded = preprocessor.encode(texts)
    check_form(encoded, len(texts))
    for text, ids in zip(texts, torch.split(encoded.values, encoded.lengths.tolist()), strict=True):
        least, most = (int(ids.min()), int(ids.max())) if len(ids) else (1, 1)
        require(least >= 1, f"{short(text)} has the id {least}; 0 is padding, and the least id of a symbol is 1")
        require(most < preprocessor.size, f"{short(text)} has the id {most}, but size is {preprocessor.size}")


def _encode_and_decode(preprocessor: Preprocessor, text: str) -> None:
    decoded = preprocessor.decode(ids_of(preprocessor, text))
    require(isinstance(decoded, str), f"decode returns a {type(decoded).__name__}, not a text")


_MANY = 1100
_SIGNS = [chr(0x4E00 + index) for index in range(700)]
_LONG_WORDS = (20, 70, 300)
_REPEATS = (2, 15, 16, 17, 33, 64, 100, 257, 1000)


class ManyChecks(PreprocessorBase):
    """A thousand texts and more, of one token or of thousands."""

    def test_many_texts(self) -> None:
        """A thousand texts in a call have the ids that they have in small ones; fitting them gives each its own."""
        texts = _texts(self.texts)
        self._check_calls(self.fitted(), texts)
        learned = self.make()
        since = time.perf_counter()
        words = [number_word(number) for number in range(_MANY)]
        learned.fit([*texts, *words, *_SIGNS])
        _check_range(learned, texts)
        spent = time.perf_counter() - since
        require(spent < self.patience, f"fitting and encoding {len(texts):,} texts took {spent:.1f} s")
        self._check_calls(learned, texts)
        if not self.loses():
            _check_distinct(learned, words, "words")
            _check_distinct(learned, _SIGNS, "signs")

    def test_long_words(self) -> None:
        """Two long words of the training texts are told apart, whether they differ at the beginning or the end."""
        if reason := self.loses():
            raise SkipTest(reason)
        for letters in _LONG_WORDS:
            middle = "".join(number_word(number) for number in range(letters))[:letters]
            pairs = (f"b{middle}", f"d{middle}"), (f"{middle}b", f"{middle}d")
            preprocessor = self.fitted(*pairs[0], *pairs[1])
            for one, other in pairs:
                ids = ids_of(preprocessor, one)
                require(
                    not ids or ids != ids_of(preprocessor, other),
                    f"two words of {letters + 1} letters, one of which differs, have the same ids: is the rest of a"
                    " long word cut off? If this is intended, explain it in `lossy`",
                )

    @staticmethod
    def _check_calls(preprocessor: Preprocessor, texts: Sequence[str]) -> None:
        whole = preprocessor.encode(texts)
        require(len(whole) == len(texts), f"encode returns {len(whole)} sequences for {len(texts)} texts")
        for size in (1, 16, 33, 400):
            for low in range(0, len(texts), size) if size > 1 else range(0, len(texts), 23):
                part = preprocessor.encode(texts[low : low + size])
                begin, steps = int(whole.starts[low]), int(whole.lengths[low : low + size].sum())
                expected = Ragged(whole.values[begin : begin + steps], whole.lengths[low : low + size])
                same(f"texts {low} to {low + size - 1} by themselves, against {len(texts):,} in a call", part, expected)

    def test_longer_than_any(self) -> None:
        """A text that is longer than any in training is encoded whole."""
        preprocessor = self.fitted()
        for text in (max(self.texts, key=len), UNSEEN):
            once, twice = (len(ids_of(preprocessor, " ".join([text] * times))) for times in (1, 2))
            more = max(twice - once, once // 2)
            for times in _REPEATS:
                found = len(ids_of(preprocessor, " ".join([text] * times)))
                fault = f"{short(text)} has {once} ids, repeated {times} times {found}: the rest is cut off"
                require(found >= 0.9 * times * more - 1, fault)


def _texts(given: Sequence[str]) -> list[str]:
    """Return a thousand texts of unequal lengths, each word of which occurs once or twice, and all signs."""
    words = [number_word(number) for number in range(_MANY)]
    found = [" ".join(words[place : place + 1 + place % 5]) for place in range(_MANY - 120)]
    found += [f"{given[place % len(given)]} {words[-place - 1]}" for place in range(100)]
    found += ["", UNSEEN, *("".join(_SIGNS[at : at + 35]) for at in range(0, 700, 35))]
    return [*found, "".join(f"{sign} " for sign in _SIGNS), " ".join(words)]


def _check_distinct(preprocessor: Preprocessor, texts: Sequence[str], what: str) -> None:
    """Require nearly all texts to have ids of their own; normalisation may make a few the same."""
    encoded = preprocessor.encode(texts)
    parts = [tuple(part.tolist()) for part in torch.split(encoded.values, encoded.lengths.tolist())]
    unknown = sum(preprocessor.unknown_id in part for part in parts)
    hint = "if this is intended, explain it in `lossy`"
    require(10 * unknown <= len(parts), f"{unknown} of {len(parts)} {what} of the training texts are unknown; {hint}")
    known = [part for part in parts if part and preprocessor.unknown_id not in part]
    fault = f"{len(known)} different {what} of the training texts have {len({*known})} encodings; {hint}"
    require(10 * (len(known) - len({*known})) <= len(known), fault)
