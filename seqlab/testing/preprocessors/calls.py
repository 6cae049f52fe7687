"""Checks that the calls of a preprocessor have no side effects, and of its vocabulary, state and options."""

import copy
import json
import random
import runpy
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, Ragged, UserError
from seqlab.plugins.exports import standalone_encoder
from seqlab.testing.options import check_options, has_option
from seqlab.testing.preprocessors.texts import (
    ANY,
    OFTEN,
    SURROGATES,
    UNSEEN,
    PreprocessorBase,
    ids_of,
    number_word,
    same,
    same_state,
    short,
)
from seqlab.testing.process import (
    call_elsewhere,
    check_plain,
    check_refuses_bad_states,
    pickled,
    pickled_size,
    random_numbers,
)
from seqlab.testing.suite import require

_ROUND, _GROWTH = 1500, 30_000
"""Texts of a round, and bytes that may be kept of them."""
_TIMES = 40
"""How often a text is in a call, so that its words are in every text of the call."""


class CallChecks(PreprocessorBase):
    """The same texts have the same ids, however and wherever they are encoded."""

    def test_a_batch_is_its_texts(self) -> None:
        """Texts are encoded together as one by one, in their order, from any sequence."""
        preprocessor = self.fitted()
        texts = [*self.texts, "", UNSEEN, *ANY.values()]
        for order, batch in (("given", texts), ("reversed", texts[::-1])):
            together = preprocessor.encode(batch)
            same(f"texts in the order {order}", together, Ragged.of([preprocessor.encode([t]).values for t in batch]))
        same("a tuple of texts", preprocessor.encode(tuple(texts)), preprocessor.encode(texts))
        for text in self.texts:
            expected = Ragged.of([preprocessor.encode([text]).values] * _TIMES)
            same(f"{short(text)}, {_TIMES} times in a call,", preprocessor.encode([text] * _TIMES), expected)

    def test_same_texts_same_ids(self) -> None:
        """Two that were fitted on the same texts give the same ids, at every call."""
        with random_numbers(1):
            one = self.fitted()
            encoded = one.encode(self.texts)
            after = float(torch.rand(())), random.random()
        with random_numbers(2):
            self.fitted().encode(self.texts)
            seeded = float(torch.rand(())) == after[0] or random.random() == after[1]
            require(not seeded, "the global random numbers are seeded; use a generator of your own")
            other = self.fitted()
            for _ in range(5):
                same("a second call", one.encode(self.texts), encoded)
        same_state("another one fitted on the same texts", other, one, self.texts)

    def test_same_ids_in_another_process(self) -> None:
        """Ids do not depend on the order in which Python hashes texts, which differs between processes."""
        here = self.fitted()
        expected, state = here.encode(self.texts), json.dumps(here.state_dict())
        for both in call_elsewhere(encode_fitted_and_loaded, self.make(), [*self.texts], OFTEN, state):
            for what, (values, lengths) in zip(("in another process", "loaded in another process"), both, strict=True):
                found = Ragged(torch.tensor(values, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64))
                same(what, found, expected)

    def test_texts_are_left_alone(self) -> None:
        """Calls neither change nor keep the lists that they are given, nor change what an earlier call returned."""
        preprocessor = self.make()
        given = [*self.texts, *ANY.values(), "  two  blanks  ", "CAPITALS", *self._surrogates(), ""] * OFTEN
        for name, use in (("fit", preprocessor.fit), ("encode", preprocessor.encode)):
            texts = [*given]
            use(texts)
            require(texts == given, f"{name} changes the list that it is given")
            texts.clear()
            texts += [UNSEEN] * 5
        before = preprocessor.encode(self.texts)
        kept = Ragged(before.values.clone(), before.lengths.clone())
        other = self.make()
        other.fit(given)
        same("after the list given to fit was changed", before, other.encode(self.texts))
        preprocessor.encode([UNSEEN, *reversed(self.texts)])
        same("what was encoded before another call", before, kept)
        ids = [0, *ids_of(preprocessor, self.texts[0]), 0]
        copied = [*ids]
        preprocessor.decode(ids)
        require(ids == copied, "decode changes the list that it is given")

    def _surrogates(self) -> list[str]:
        """Return the texts with lone surrogates that it accepts."""
        accepted = []
        for text in SURROGATES.values():
            with suppress(ValueError):
                self.fitted(text).encode([text])
                accepted.append(text)
        return accepted

    def test_texts_leave_nothing_behind(self) -> None:
        """Ids do not depend on texts that were encoded before, and the memory of those is bounded."""
        warm, texts = self.fitted(), _similar(self.texts)
        for text in (*self.texts, *texts):
            warm.encode([text])
        for text in texts:
            found, expected = warm.encode([text]), self.fitted().encode([text])
            same(f"{short(text)}, after texts that begin or end like it,", found, expected)
        same("texts after others", warm.encode(self.texts), self.fitted().encode(self.texts))
        sizes = [_size(warm)]
        for turn in range(2):
            numbers = range(turn * _ROUND, (turn + 1) * _ROUND)
            warm.encode([f"{self.texts[n % len(self.texts)]} {number_word(n)}" for n in numbers])
            sizes.append(_size(warm))
        grown = [after - before for before, after in pairwise(sizes)]
        fault = f"it grew by {grown[0]:,} and {grown[1]:,} bytes in two calls of {_ROUND:,} texts; bound its caches"
        require(min(grown) < _GROWTH, fault)

    def test_instances_share_nothing(self) -> None:
        """What one instance learns, another one does not know."""
        one = self.fitted()
        before, size = one.encode(self.texts), one.size
        other = self.make()
        other.fit([UNSEEN, *self.texts[::-2]] * OFTEN)
        other.encode([UNSEEN])
        require(one.size == size, f"size was {size}; after another instance was fitted it is {one.size}")
        same("after another instance was fitted", one.encode(self.texts), before)

    def test_dropped_says_why(self) -> None:
        """``dropped`` returns reasons by the index of a text, the same for a text alone."""
        preprocessor = self.fitted()
        texts = [*self.texts, "", *ANY.values()]
        found = preprocessor.dropped(texts)
        right = isinstance(found, dict) and all(at in range(len(texts)) and reason for at, reason in found.items())
        require(right, f"dropped returns {str(found)[:80]}; it must be reasons by index")
        for index, text in enumerate(texts):
            alone, among = preprocessor.dropped([text]).get(0), found.get(index)
            require(alone == among, f"{short(text)} alone is dropped for {alone!r}, among others for {among!r}")

    def test_standalone_encodes_the_same(self) -> None:
        """The files registered for export encode as it does."""
        preprocessor = self.fitted()
        if (files := standalone_encoder(preprocessor)) is None:
            raise SkipTest("it writes no Python of its own")
        require("encode.py" in files, f"the registered function returns {', '.join(files)}, without encode.py")
        state = json.loads(json.dumps(preprocessor.state_dict()))
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / name).write_text(text, "utf-8")
            sys.path.insert(0, folder)
            try:
                encode = runpy.run_path(str(Path(folder) / "encode.py"))["encoder"](state)
                found = {text: list(encode(text)) for text in (*self.texts, "", UNSEEN, *ANY.values())}
            finally:
                sys.path.remove(folder)
                for name in files:
                    sys.modules.pop(name.removesuffix(".py"), None)
        for text, ids in found.items():
            require(ids == ids_of(preprocessor, text), f"encode.py returns {ids[:10]} for {short(text)}")

    def test_copies_and_pickles(self) -> None:
        """A deep copy and a pickled one give the same ids, and share nothing with the original."""
        preprocessor = self.fitted()
        encoded = preprocessor.encode(self.texts)
        copied = copy.deepcopy(preprocessor)
        same("a deep copy", copied.encode(self.texts), encoded)
        same("a pickled one", pickled(preprocessor).encode(self.texts), encoded)
        copied.fit([UNSEEN, *self.texts[::-2]] * OFTEN)
        same("after a deep copy was fitted on other texts", preprocessor.encode(self.texts), encoded)


def encode_fitted_and_loaded(
    preprocessor: Preprocessor, texts: list[str], often: int, state: str
) -> list[tuple[Any, Any]]:
    """Encode texts by a preprocessor that is fitted on them, and by one that loads a state."""
    loaded = copy.deepcopy(preprocessor)
    preprocessor.fit(texts * often)
    loaded.load_state_dict(json.loads(state))
    found = (preprocessor.encode(texts), loaded.encode(texts))
    return [(one.values.tolist(), one.lengths.tolist()) for one in found]


def _similar(texts: Sequence[str]) -> list[str]:
    """Return texts that begin or end as others do, or have their letters."""
    one, other = texts[0], texts[-1]
    long = " ".join([one] * 12)
    return [f"{long} {one}", f"{long} {other}", f"{one} {long}", f"{other} {long}", one[::-1], one.upper(), f" {one} "]


def _size(preprocessor: Preprocessor) -> int:
    try:
        return pickled_size(preprocessor)
    except Exception:  # which test_copies_and_pickles reports
        return 0


class LearningChecks(PreprocessorBase):
    """The vocabulary depends on the training texts, or on the state that was loaded, and on nothing else."""

    def test_encoding_teaches_nothing(self) -> None:
        """What is encoded or decoded after fitting changes neither the size, nor the state, nor later ids."""
        preprocessor = self.fitted()
        before, size = copy.deepcopy(preprocessor.state_dict()), preprocessor.size
        encoded = preprocessor.encode(self.texts)
        for text in (UNSEEN, *ANY.values()):
            preprocessor.decode(ids_of(preprocessor, text))
        require(preprocessor.size == size, f"size was {size}; after encoding unseen texts it is {preprocessor.size}")
        require(preprocessor.state_dict() == before, "the state changed as unseen texts were encoded")
        same("after unseen texts were encoded", preprocessor.encode(self.texts), encoded)

    def test_only_the_texts_decide(self) -> None:
        """An iterator, which can be read once, a second fit and another order of the texts give the same vocabulary."""
        plain, given = self.fitted(), [*self.texts] * OFTEN
        once, twice, turned = self.make(), self._used(), self.make()
        once.fit(iter(given))
        twice.fit(given)
        same_state("fitted from an iterator", once, plain, self.texts)
        same_state("after a second fit, against that fit alone,", twice, plain, self.texts)
        turned.fit(given[::-1])
        require(turned.size == plain.size, f"size is {plain.size}, and {turned.size} for the training texts in reverse")
        same("fitted on the texts in reverse", turned.encode(self.texts), plain.encode(self.texts))

    def _used(self) -> Preprocessor:
        """Return one that was fitted on other texts and used."""
        used = self.make()
        used.fit([UNSEEN, *self.texts[::-2], "words of its own"] * OFTEN)
        used.encode(self.texts)
        return used

    def test_state_is_plain_json(self) -> None:
        """The state is a dict of plain JSON values, whatever the texts."""
        check_plain("state_dict()", self.fitted(*ANY.values()).state_dict())
        try:
            odd = self.fitted(*SURROGATES.values())
        except ValueError:  # which it may refuse
            return
        check_plain("state_dict() after lone surrogates", odd.state_dict())

    def test_state_is_restored(self) -> None:
        """One that loads the state, new or used, gives the same ids, texts and sizes."""
        preprocessor = self.fitted()
        state, texts = json.dumps(preprocessor.state_dict()), [*self.texts, UNSEEN, *ANY.values()]
        for what, other in (("loaded", self.make()), ("loaded over another vocabulary", self._used())):
            other.load_state_dict(json.loads(state))
            same_state(what, other, preprocessor, texts)
            for text in texts:
                tokens = ids_of(preprocessor, text)
                got, expected = other.decode(tokens), preprocessor.decode(tokens)
                require(got == expected, f"{what}: {short(expected)} is decoded as {short(got)}")

    def test_bad_states_are_refused(self) -> None:
        """A state that it did not write is refused with a ValueError."""
        check_refuses_bad_states(json.loads(json.dumps(self.fitted().state_dict())), self.make)


_LIMITS = ("max_size", "vocabulary_size", "vocab_size", "max_tokens", "max_features", "max_vocab")
_RESERVED_IDS = 16
"""Ids that a vocabulary may have beyond its limit: padding, the unknown one, marks."""
_OFTEN, _TWICE, _ONCE = "dodo", "k", "bcefghijlmnpqrstuvxyz"
_WORDS = [number_word(number) for number in range(400)]


class OptionChecks(PreprocessorBase):
    """Options do what their names say."""

    def test_limits_are_kept(self) -> None:
        """``min_count`` and a limit on the vocabulary's size, where they are options, do what they say."""
        made = self.make()
        found, counts = [name for name in _LIMITS if has_option(made, name)], has_option(made, "min_count")
        if not found and not counts:
            raise SkipTest("it has no option min_count or max_size")
        for name in found:
            self._check_size(name)
        if counts:
            self._check_count()

    def _limited(self, **changed: Any) -> Preprocessor | None:
        """Fit with other options; return ``None`` where they are refused."""
        free = {"min_count": 1} if has_option(self.make(), "min_count") else {}
        texts = [_OFTEN] * (40 if "min_count" in changed else 1500) + [_TWICE] * 2 + list(_ONCE)
        try:
            made = type(self).preprocessor(**{**self.options, **free, **changed})
            made.fit([*texts, *_WORDS] if "min_count" not in changed else texts)
        except (ValueError, UserError):
            return None
        return made

    def _check_size(self, name: str) -> None:
        sizes = {}
        for limit in (5, 9, 40, 270, 300):
            made = self._limited(**{name: limit})
            if made is None:
                continue
            sizes[limit] = made.size
            known, whole = _known_ids(made, [_OFTEN, _TWICE, *_ONCE, *_WORDS])
            if whole:
                continue  # it spells what is no token: the limit is not one of all ids
            most = limit + _RESERVED_IDS
            require(made.size <= most, f"{name}={limit} gives {made.size} ids, at most {most} are right")
            require(known <= limit, f"{name}={limit} lets {known} different tokens be known")
            ids = ids_of(made, _OFTEN)
            require(made.unknown_id not in ids, f"{name}={limit} omits {_OFTEN!r}, the most frequent word")
        if 5 in sizes and 9 in sizes:
            fault = f"{name}=5 gives {sizes[5]} ids and {name}=9 gives {sizes[9]}; 4 more are right"
            require(sizes[9] - sizes[5] == 4, fault)

    def _check_count(self) -> None:
        whole = self._limited(min_count=1)
        if whole is None or any(not _knows(whole, text) for text in (_OFTEN, _TWICE, _ONCE[0])):
            return  # it cleans such texts away
        for count, text, known in (
            (2, _OFTEN, True), (2, _TWICE, True), (2, _ONCE[0], False), (3, _TWICE, False), (40, _OFTEN, True),
        ):  # fmt: skip
            made = self._limited(min_count=count)
            if made is not None:
                times = {_OFTEN: 40, _TWICE: 2}.get(text, 1)
                rare = len(_ONCE) + (count > 2)
                spelled_out = not known and whole.size - made.size >= rare  # it is no token, but made of others
                fault = f"min_count={count}: {text!r}, {times} times in training, is {'un' if known else ''}known"
                require(spelled_out or _knows(made, text) == known, fault)

    def test_every_option(self) -> None:
        """Each other value of an option that is a ``bool``, a ``Literal`` or an enum passes the checks, too."""
        check_options(self, "make", _OF_OPTIONS, normalised=PreprocessorBase.normalised)


_OF_OPTIONS = (
    "ids_are_in_range",
    "texts_come_back",
    "unseen_symbols_are_unknown",
    "padding_is_left_out",
    "empty_texts",
    "any_text_is_taken",
    "longer_than_any",
    "a_batch_is_its_texts",
    "same_texts_same_ids",
    "encoding_teaches_nothing",
    "only_the_texts_decide",
    "state_is_restored",
    "reserved_names_are_texts",
    "texts_are_left_alone",
    "dropped_says_why",
    "long_words",
)
"""Checks that an option can make fail, of those that take little time."""


def _known_ids(preprocessor: Preprocessor, texts: Sequence[str]) -> tuple[int, bool]:
    """Count the known ids of texts, without marks that are in each text; return also whether none is unknown."""
    encoded = preprocessor.encode(texts)
    found = [{*part.tolist()} for part in torch.split(encoded.values, encoded.lengths.tolist())]
    used, marks = set[int]().union(*found), set[int].intersection(*found)
    return len(used - marks - {preprocessor.unknown_id}), preprocessor.unknown_id not in used


def _knows(preprocessor: Preprocessor, text: str) -> bool:
    ids = ids_of(preprocessor, text)
    return bool(ids) and preprocessor.unknown_id not in ids
