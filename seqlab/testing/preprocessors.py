"""Checks that every preprocessor must pass."""

import copy
import json
import os
import pickle
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, Ragged, UserError
from seqlab.testing.pickling import pickled
from seqlab.testing.plain import check_defaults, check_plain, check_refuses_bad_states
from seqlab.testing.suite import Suite, agree, demand

TEXTS = (
    "the cat sat on the mat", "a", "O'Neill-Smith 2", "naïve café", "Żółć gęślą jaźń", "Straße",
    "Αθήνα και Σπάρτη", "Привет, мир", "Nguyễn Đặng", "你好 世界", "こんにちは", "안녕하세요", "नमस्ते दुनिया",
    "مرحبا بالعالم", "שלום עולם", "สวัสดี", "👩\u200d👩\u200d👧 🇻🇳", "the mat sat on the cat",
)  # fmt: skip
"""What a preprocessor is fitted on unless its suite says otherwise: many scripts, in NFC."""
_OFTEN = 3
"""How often each text is shown in fitting, for those that leave out what is rare."""

_ANY = {
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
_SURROGATES = {"a lone surrogate": "a\ud800b", "surrogates in the wrong order": "\udfff\ud800", "a byte": "\udc80"}
_UNSEEN = "☃Ѫ鬱ꙮ𓀀ǂ"
_LONG = 100_000

_CHILD = """
import json, pickle, sys
path, preprocessor, texts = pickle.load(sys.stdin.buffer)
sys.path[:] = path
try:
    preprocessor = pickle.loads(preprocessor)
except (ImportError, AttributeError):
    sys.exit(3)
preprocessor.fit(texts)
encoded = preprocessor.encode(texts)
print(json.dumps([encoded.values.tolist(), encoded.lengths.tolist()]))
"""


class PreprocessorSuite(Suite):
    """Checks of a preprocessor; a subclass names it.

    What comes back from ``decode`` is compared after NFC on both sides.

    Attributes:
        preprocessor: its type, or a factory.
        options: what the constructor is to be given.
        texts: what it is fitted on: at least two that differ.
        lossy: why texts do not come back, where they cannot.
        patience: seconds that 100,000 characters may take.
    """

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

    # Making things ------------------------------------------------------------------------------------------------

    def make(self) -> Preprocessor:
        """Make the preprocessor, not fitted yet."""
        made = type(self).preprocessor(**self.options)
        demand(isinstance(made, Preprocessor), f"it is a {type(made).__name__}, and no seqlab.Preprocessor")
        return made

    def fitted(self, *more: str) -> Preprocessor:
        """Make the preprocessor and fit it on the suite's texts, and on more."""
        made = self.make()
        made.fit([*self.texts, *more] * _OFTEN)
        return made

    def _comes_back(self, preprocessor: Preprocessor, text: str) -> str:
        """Demand that a text comes back; say what comes instead where nobody said what is to come."""
        ids = _ids(preprocessor, text)
        got, expected = preprocessor.decode(ids), self.normalised(text)
        if unicodedata.normalize("NFC", got) == unicodedata.normalize("NFC", expected):
            return ""
        fault = f"{_short(text)} comes back as {_short(got)}"
        declared = type(self).normalised is not PreprocessorSuite.normalised
        demand(not declared, f"{fault}, not as {_short(expected)}, which normalised() says")
        shown = "\ufffd" in got and "\ufffd" not in text
        demand(not shown, f"{fault}, although training showed it")
        demand(_ids(preprocessor, got) == ids, f"{fault}, which has other ids")
        return fault

    # What it is ---------------------------------------------------------------------------------------------------

    def test_constructor_needs_nothing(self) -> None:
        """Every argument of the constructor has a default."""
        check_defaults(self.make())

    def test_ids_are_in_range(self) -> None:
        """Ids are int64 from 1 to size - 1, 0 being padding, and the lengths are those of the texts in their order."""
        preprocessor = self.fitted()
        size = preprocessor.size
        demand(isinstance(size, int) and size >= 2, f"size is {size!r}; padding and unknown alone are 2")
        texts = [*self.texts, *_ANY.values(), _UNSEEN, ""]
        encoded = preprocessor.encode(texts)
        _check_form(encoded, len(texts))
        if len(encoded.values):
            least, most = int(encoded.values.min()), int(encoded.values.max())
            demand(least >= 1, f"encode gives the id {least}; 0 is padding, and the least id of a symbol is 1")
            demand(most < size, f"encode gives the id {most}, but size is {size}")

    def test_texts_come_back(self) -> None:
        """The training texts come back from their ids, as far as the preprocessor does not normalise them."""
        if self.lossy:
            raise SkipTest(self.lossy)
        preprocessor = self.fitted()
        faults = [fault for text in self.texts if (fault := self._comes_back(preprocessor, text))]
        if faults:
            raise SkipTest(f"{faults[0]}, which has the same ids; a suite's normalised() can say whether that is meant")

    def test_unseen_symbols_are_unknown(self) -> None:
        """A symbol that training did not show has ``unknown_id``, which is in range and decodes to U+FFFD."""
        preprocessor = self.fitted()
        unknown, size = preprocessor.unknown_id, preprocessor.size
        demand(
            isinstance(unknown, int) and 0 < unknown < size, f"unknown_id is {unknown!r}; it must be 1 to {size - 1}"
        )
        shown = preprocessor.decode([unknown])
        demand("\ufffd" in shown, f"the unknown id decodes to {_short(shown)}, without U+FFFD")
        seen = "".join(self.texts) + "".join(map(self.normalised, self.texts))
        unseen = [symbol for symbol in _UNSEEN if symbol not in seen and self.normalised(symbol)]
        if not unseen:
            raise SkipTest("no symbol was found that the texts do not have")
        for symbol in unseen:
            ids = _ids(preprocessor, symbol)
            shown = preprocessor.decode(ids)
            if shown == self.normalised(symbol):
                continue  # it can write any symbol, seen or not
            if not ids and not _ids(self.fitted(symbol), symbol):
                continue  # it is cleaned away, seen or not
            demand(unknown in ids, f"{symbol!r} was not seen, but has the ids {ids}, without unknown_id {unknown}")
            demand("\ufffd" in shown, f"{symbol!r} was not seen, but decodes to {_short(shown)}, without U+FFFD")

    def test_padding_is_left_out(self) -> None:
        """Zeros among the ids change nothing in what they decode to."""
        preprocessor = self.fitted()
        for text in self.texts:
            ids = _ids(preprocessor, text)
            plain = preprocessor.decode(ids)
            among = [part for token in ids for part in (token, 0)]
            for where, padded in (("behind", [*ids, 0, 0]), ("before", [0, *ids]), ("among", among)):
                got = preprocessor.decode(padded)
                demand(got == plain, f"padding {where} the ids of {_short(text)}: they decode to {_short(got)}")

    # Which texts it takes -----------------------------------------------------------------------------------------

    def test_empty_texts(self) -> None:
        """An empty text has length 0 and comes back empty; no texts give no sequences."""
        preprocessor = self.fitted()
        text = self.texts[0]
        mixed = preprocessor.encode(["", text, ""])
        _check_form(mixed, 3)
        lengths = mixed.lengths.tolist()
        demand(lengths[0] == lengths[2] == 0, f"an empty text has the lengths {lengths[0]} and {lengths[2]}, not 0")
        agree("the ids of a text among empty ones", mixed.values, preprocessor.encode([text]).values)
        for texts in ([""], []):
            _check_form(preprocessor.encode(texts), len(texts))
        demand(preprocessor.decode([]) == "", f"no ids decode to {_short(preprocessor.decode([]))}, and not to nothing")

    def test_any_text_is_taken(self) -> None:
        """No text crashes encode or decode; a lone surrogate may be refused with a ValueError that says so."""
        preprocessor = self.fitted()
        for what, text in (_ANY | _SURROGATES).items():
            for where, use in (("encode and decode", partial(_there_and_back, preprocessor)), ("fit", self.fitted)):
                try:
                    use(text)
                except AssertionError:
                    raise
                except Exception as error:
                    clear = isinstance(error, ValueError) and str(error) and what in _SURROGATES
                    demand(clear, f"{where} crashes on {what} ({ascii(text)[:40]}): {type(error).__name__}: {error}")
        if not self.lossy:
            preprocessor = self.fitted(*_ANY.values())
            for text in _ANY.values():
                self._comes_back(preprocessor, text)

    def test_long_text(self) -> None:
        """A text of 100,000 characters is encoded whole, in a reasonable time."""
        one = " ".join(self.texts)
        half = " ".join([one] * (1 + _LONG // (2 * len(one) + 2)))
        whole = f"{half} {half}"
        preprocessor = self.fitted(whole)
        since = time.perf_counter()
        ids = _ids(preprocessor, whole)
        _ids(preprocessor, self.texts[0].strip()[:1] * _LONG)
        spent = time.perf_counter() - since
        demand(spent < self.patience, f"{_LONG:,} characters took {spent:.1f} s; at most {self.patience} s is right")
        halves = len(_ids(preprocessor, half))
        demand(
            len(ids) >= 1.9 * halves,
            f"{len(whole):,} characters have {len(ids):,} ids, their first half {halves:,}: the rest is cut off",
        )
        if not self.lossy:
            self._comes_back(preprocessor, whole)

    # What it learns, and from what --------------------------------------------------------------------------------

    def test_encoding_teaches_nothing(self) -> None:
        """What is encoded or decoded after fitting changes neither the size, nor the state, nor later ids."""
        preprocessor = self.fitted()
        before, size = copy.deepcopy(preprocessor.state_dict()), preprocessor.size
        encoded = preprocessor.encode(self.texts)
        for text in (_UNSEEN, *_ANY.values()):
            preprocessor.decode(_ids(preprocessor, text))
        demand(preprocessor.size == size, f"size was {size}; after unseen texts were encoded it is {preprocessor.size}")
        demand(preprocessor.state_dict() == before, "the state changed as unseen texts were encoded")
        _same("after unseen texts were encoded", preprocessor.encode(self.texts), encoded)

    def test_fitting_again_forgets(self) -> None:
        """A second fit, on other texts, leaves nothing of the first."""
        first, second = [*self.texts[::2]] * _OFTEN, [*self.texts[1::2]] * _OFTEN
        again, fresh = self.make(), self.make()
        again.fit(first)
        again.encode(first)
        again.fit(second)
        fresh.fit(second)
        demand(
            again.size == fresh.size, f"size is {again.size} after a second fit; the second alone gives {fresh.size}"
        )
        demand(again.state_dict() == fresh.state_dict(), "the state after a second fit is not that of the second alone")
        _same("after a second fit", again.encode(self.texts), fresh.encode(self.texts))

    def test_fits_in_one_pass(self) -> None:
        """An iterator, which can be read once, teaches what a list does."""
        once, expected = self.make(), self.fitted()
        once.fit(text for text in [*self.texts] * _OFTEN)
        demand(once.size == expected.size, f"size is {once.size} from an iterator, and {expected.size} from a list")
        _same("fitted from an iterator", once.encode(self.texts), expected.encode(self.texts))

    def test_not_fitted_is_an_error(self) -> None:
        """Before it is fitted, encode says so in an error, unless there is nothing for it to learn."""
        try:
            encoded = self.make().encode(self.texts)
        except (ValueError, RuntimeError, UserError) as error:
            demand(str(error), "the error of encode before fitting has no message")
        except Exception as error:
            raise AssertionError(
                f"encode before fitting gives {type(error).__name__}, which tells nobody why"
            ) from error
        else:
            try:
                _same("before fitting", encoded, self.fitted().encode(self.texts))
            except AssertionError as error:
                raise AssertionError(f"encode gives ids that mean nothing, and no error; {error}") from error

    # Calls leave no trace -----------------------------------------------------------------------------------------

    def test_a_batch_is_its_texts(self) -> None:
        """Texts are encoded together as one by one, in their order, from any sequence."""
        preprocessor = self.fitted()
        texts = [*self.texts, "", _UNSEEN, *_ANY.values()]
        for order, batch in (("given", texts), ("reversed", texts[::-1])):
            together = preprocessor.encode(batch)
            _same(f"texts in the order {order}", together, Ragged.of([preprocessor.encode([t]).values for t in batch]))
        _same("a tuple of texts", preprocessor.encode(tuple(texts)), preprocessor.encode(texts))

    def test_same_texts_same_ids(self) -> None:
        """Two that were fitted on the same texts give the same ids, at every call."""
        one, other = self.fitted(), self.fitted()
        encoded = one.encode(self.texts)
        _same("a second call", one.encode(self.texts), encoded)
        _same("another one fitted on the same texts", other.encode(self.texts), encoded)
        demand(one.state_dict() == other.state_dict(), "two that were fitted on the same texts have unequal states")

    def test_same_ids_in_another_process(self) -> None:
        """Ids do not depend on the order in which Python hashes texts, which each process draws anew."""
        expected = self.fitted().encode([*self.texts] * _OFTEN)
        try:
            packed = pickle.dumps((
                [entry or os.getcwd() for entry in (*sys.path, "")],  # noqa: PTH109
                pickle.dumps(self.make()),
                [*self.texts] * _OFTEN,
            ))  # fmt: skip
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SkipTest(f"it cannot be sent to another process: {error}") from error
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CHILD],
            input=packed,
            capture_output=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        if done.returncode == 3:
            raise SkipTest("another process cannot import it")
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        demand(done.returncode == 0, f"in another process it fails: {said[-1]}")
        values, lengths = map(torch.tensor, json.loads(done.stdout.splitlines()[-1]))
        _same("in another process", Ragged(values, lengths), expected)

    def test_texts_are_left_alone(self) -> None:
        """Neither fit nor encode changes the list it is given."""
        preprocessor = self.make()
        for name, use in (("fit", preprocessor.fit), ("encode", preprocessor.encode)):
            texts = [*self.texts] * _OFTEN
            use(texts)
            demand(texts == [*self.texts] * _OFTEN, f"{name} changes the list that it is given")

    def test_copies_and_pickles(self) -> None:
        """A deep copy and a pickled one give the same ids, and share nothing with the original."""
        preprocessor = self.fitted()
        encoded = preprocessor.encode(self.texts)
        copied = copy.deepcopy(preprocessor)
        _same("a deep copy", copied.encode(self.texts), encoded)
        _same("a pickled one", pickled(preprocessor).encode(self.texts), encoded)
        copied.fit([_UNSEEN, *self.texts[::-2]] * _OFTEN)
        _same("after a deep copy was fitted anew", preprocessor.encode(self.texts), encoded)

    # The state ----------------------------------------------------------------------------------------------------

    def test_state_is_plain_json(self) -> None:
        """The state is a dict of plain JSON values, whatever the texts."""
        check_plain("state_dict()", self.fitted(*_ANY.values()).state_dict())
        try:
            odd = self.fitted(*_SURROGATES.values())
        except ValueError:  # which it may refuse
            return
        check_plain("state_dict() after lone surrogates", odd.state_dict())

    def test_state_is_taken_back(self) -> None:
        """A fresh one that loads the state gives the same ids, texts and sizes."""
        preprocessor, fresh = self.fitted(), self.make()
        fresh.load_state_dict(json.loads(json.dumps(preprocessor.state_dict())))
        demand(fresh.size == preprocessor.size, f"size is {fresh.size} after loading, and was {preprocessor.size}")
        ids = (fresh.unknown_id, preprocessor.unknown_id)
        demand(ids[0] == ids[1], f"unknown_id is {ids[0]} after loading, and was {ids[1]}")
        texts = [*self.texts, _UNSEEN, *_ANY.values()]
        _same("after loading", fresh.encode(texts), preprocessor.encode(texts))
        for text in texts:
            tokens = _ids(preprocessor, text)
            got, expected = fresh.decode(tokens), preprocessor.decode(tokens)
            demand(got == expected, f"after loading {_short(got)} is decoded, and {_short(expected)} before")

    def test_bad_states_are_refused(self) -> None:
        """A state that it did not write is refused with a ValueError."""
        check_refuses_bad_states(json.loads(json.dumps(self.fitted().state_dict())), self.make)


def _ids(preprocessor: Preprocessor, text: str) -> list[int]:
    encoded = preprocessor.encode([text])
    _check_form(encoded, 1)
    ids: list[int] = encoded.values.tolist()
    return ids


def _there_and_back(preprocessor: Preprocessor, text: str) -> None:
    back = preprocessor.decode(_ids(preprocessor, text))
    demand(isinstance(back, str), f"decode gives a {type(back).__name__}, and no text")


def _check_form(encoded: Ragged, count: int) -> None:
    demand(isinstance(encoded, Ragged), f"encode gives a {type(encoded).__name__}, and no Ragged")
    demand(len(encoded) == count, f"encode gives {len(encoded)} sequences for {count} texts")
    demand(encoded.values.dim() == 1, f"the ids have the shape {tuple(encoded.values.shape)}; one axis is right")
    for name, tensor in (("ids", encoded.values), ("lengths", encoded.lengths)):
        demand(tensor.dtype == torch.int64, f"the {name} of {count} texts are {tensor.dtype}, not torch.int64")


def _same(what: str, actual: Ragged, expected: Ragged) -> None:
    agree(f"{what}: the lengths", actual.lengths, expected.lengths)
    agree(f"{what}: the ids", actual.values, expected.values)


def _short(text: str) -> str:
    shown = ascii(text) if any(0xD800 <= ord(c) <= 0xDFFF for c in text[:40]) else repr(text[:40])
    return f"{shown}..." if len(text) > 40 else shown
