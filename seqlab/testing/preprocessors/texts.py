"""Checks of what a preprocessor makes of a text."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, UserError
from seqlab.testing.plain import check_defaults
from seqlab.testing.preprocessors.making import (
    ANY,
    OFTEN,
    RESERVED,
    SURROGATES,
    UNSEEN,
    PreprocessorMaking,
    check_form,
    ids_of,
    same,
    short,
)
from seqlab.testing.suite import agree, demand
from seqlab.testing.unread import check_read

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
