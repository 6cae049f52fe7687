"""Checks that the calls of a preprocessor leave no trace."""

import copy
import json
import random
import runpy
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, Ragged, UserError
from seqlab.plugins.exports import standalone_encoder
from seqlab.plugins.signature import options
from seqlab.testing.inputs import check_plain, check_refuses_bad_states, has_option, random_numbers
from seqlab.testing.options import hold, variants
from seqlab.testing.preprocessors.texts import (
    ANY,
    OFTEN,
    SURROGATES,
    UNSEEN,
    PreprocessorMaking,
    ids_of,
    same,
    short,
    spelled,
)
from seqlab.testing.process import call_elsewhere, pickled, pickled_size
from seqlab.testing.suite import demand

_ROUND, _GROWTH = 1500, 30_000
"""Texts of a round, and bytes that may be kept of them."""
_TIMES = 40
"""How often a text is in a call, so that its words are in every text of the call."""


class CallChecks(PreprocessorMaking):
    """The same texts have the same ids, however and wherever they are asked for."""

    def test_a_batch_is_its_texts(self) -> None:
        """Texts are encoded together as one by one, in their order, from any sequence."""
        preprocessor = self.fitted()
        texts = [*self.texts, "", UNSEEN, *ANY.values()]
        for order, batch in (("given", texts), ("reversed", texts[::-1])):
            together = preprocessor.encode(batch)
            same(f"texts in the order {order}", together, Ragged.of([preprocessor.encode([t]).values for t in batch]))
        same("a tuple of texts", preprocessor.encode(tuple(texts)), preprocessor.encode(texts))
        for text in self.texts:
            alone = preprocessor.encode([text]).values
            same(
                f"{short(text)}, {_TIMES} times in a call,",
                preprocessor.encode([text] * _TIMES),
                Ragged.of([alone] * _TIMES),
            )

    def test_same_texts_same_ids(self) -> None:
        """Two that were fitted on the same texts give the same ids, at every call."""
        with random_numbers(1):
            one = self.fitted()
            encoded = one.encode(self.texts)
            after = float(torch.rand(())), random.random()
        with random_numbers(2):
            self.fitted().encode(self.texts)
            seeded = float(torch.rand(())) == after[0] or random.random() == after[1]
            demand(not seeded, "the global random numbers are seeded; use a generator of your own")
            other = self.fitted()
            for _ in range(5):
                same("a second call", one.encode(self.texts), encoded)
        same("another one fitted on the same texts", other.encode(self.texts), encoded)
        demand(one.state_dict() == other.state_dict(), "two that were fitted on the same texts have unequal states")

    def test_same_ids_in_another_process(self) -> None:
        """Ids do not depend on the order in which Python hashes texts, which each process draws anew."""
        here = self.fitted()
        expected, state = here.encode(self.texts), json.dumps(here.state_dict())
        for both in call_elsewhere(encoded_again, self.make(), [*self.texts], OFTEN, state):
            for what, (values, lengths) in zip(("in another process", "loaded in another process"), both, strict=True):
                found = Ragged(torch.tensor(values, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64))
                same(what, found, expected)

    def test_texts_are_left_alone(self) -> None:
        """Calls change no list that they are given, nor keep it, nor change what an earlier call gave."""
        preprocessor = self.make()
        given = [*self.texts, *ANY.values(), "  two  blanks  ", "CAPITALS", *self._surrogates(), ""] * OFTEN
        for name, use in (("fit", preprocessor.fit), ("encode", preprocessor.encode)):
            texts = [*given]
            use(texts)
            demand(texts == given, f"{name} changes the list that it is given")
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
        demand(ids == copied, "decode changes the list that it is given")

    def _surrogates(self) -> list[str]:
        """Give the texts with lone surrogates that it takes."""
        taken = []
        for text in SURROGATES.values():
            with suppress(ValueError):
                self.fitted(text).encode([text])
                taken.append(text)
        return taken

    def test_texts_leave_nothing_behind(self) -> None:
        """Ids do not depend on texts that were encoded before, and what is kept of those is bounded."""
        warm, texts = self.fitted(), _alike(self.texts)
        for text in (*self.texts, *texts):
            warm.encode([text])
        for text in texts:
            found, expected = warm.encode([text]), self.fitted().encode([text])
            same(f"{short(text)}, after texts that begin or end like it,", found, expected)
        same("texts after others", warm.encode(self.texts), self.fitted().encode(self.texts))
        spent = [_size(warm)]
        for round_ in range(2):
            warm.encode([f"{text} {spelled(number)}" for number, text in _numbered(self.texts, round_)])
            spent.append(_size(warm))
        grown = [after - before for before, after in pairwise(spent)]
        demand(
            min(grown) < _GROWTH,
            f"it grew by {grown[0]:,} and {grown[1]:,} bytes as {_ROUND:,} texts were encoded, then as many more:"
            " what is kept of texts must be bounded",
        )

    def test_instances_share_nothing(self) -> None:
        """What one instance learns, another one does not know."""
        one = self.fitted()
        before, size = one.encode(self.texts), one.size
        other = self.make()
        other.fit([UNSEEN, *self.texts[::-2]] * OFTEN)
        other.encode([UNSEEN])
        demand(one.size == size, f"size was {size}; after another instance was fitted it is {one.size}")
        same("after another instance was fitted", one.encode(self.texts), before)

    def test_dropped_says_why(self) -> None:
        """``dropped`` gives reasons by the index of a text, the same for a text alone."""
        preprocessor = self.fitted()
        texts = [*self.texts, "", *ANY.values()]
        found = preprocessor.dropped(texts)
        sound = isinstance(found, dict) and all(
            index in range(len(texts)) and reason for index, reason in found.items()
        )
        demand(sound, f"dropped gives {str(found)[:80]}; it must be reasons by index")
        for index, text in enumerate(texts):
            alone = preprocessor.dropped([text])
            demand(
                alone.get(0) == found.get(index),
                f"{short(text)} alone is dropped for {alone.get(0)!r}, among others for {found.get(index)!r}",
            )

    def test_standalone_encodes_the_same(self) -> None:
        """The files registered for export encode as this does."""
        preprocessor = self.fitted()
        if (files := standalone_encoder(preprocessor)) is None:
            raise SkipTest("it writes no Python of its own")
        demand("encode.py" in files, f"the export writes {', '.join(files)}, without encode.py")
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
            demand(ids == ids_of(preprocessor, text), f"encode.py gives {ids[:10]} for {short(text)}")

    def test_copies_and_pickles(self) -> None:
        """A deep copy and a pickled one give the same ids, and share nothing with the original."""
        preprocessor = self.fitted()
        encoded = preprocessor.encode(self.texts)
        copied = copy.deepcopy(preprocessor)
        same("a deep copy", copied.encode(self.texts), encoded)
        same("a pickled one", pickled(preprocessor).encode(self.texts), encoded)
        copied.fit([UNSEEN, *self.texts[::-2]] * OFTEN)
        same("after a deep copy was fitted anew", preprocessor.encode(self.texts), encoded)


def encoded_again(preprocessor: Preprocessor, texts: list[str], often: int, state: str) -> list[tuple[Any, Any]]:
    """Encode texts by a preprocessor that is fitted on them, and by one that loads a state."""
    loaded = copy.deepcopy(preprocessor)
    preprocessor.fit(texts * often)
    loaded.load_state_dict(json.loads(state))
    found = (preprocessor.encode(texts), loaded.encode(texts))
    return [(one.values.tolist(), one.lengths.tolist()) for one in found]


def _alike(texts: Sequence[str]) -> list[str]:
    """Give texts that begin or end as others do, or have their letters."""
    one, other = texts[0], texts[-1]
    long = " ".join([one] * 12)
    return [f"{long} {one}", f"{long} {other}", f"{one} {long}", f"{other} {long}", one[::-1], one.upper(), f" {one} "]


def _numbered(texts: Sequence[str], round_: int) -> Iterator[tuple[int, str]]:
    return ((round_ * _ROUND + place, texts[place % len(texts)]) for place in range(_ROUND))


def _size(preprocessor: Preprocessor) -> int:
    try:
        return pickled_size(preprocessor)
    except Exception:  # which test_copies_and_pickles reports
        return 0


class LearningChecks(PreprocessorMaking):
    """What fitting teaches, and nothing else does."""

    # What it learns, and from what ------------------------------------------------------------------------------------

    def test_encoding_teaches_nothing(self) -> None:
        """What is encoded or decoded after fitting changes neither the size, nor the state, nor later ids."""
        preprocessor = self.fitted()
        before, size = copy.deepcopy(preprocessor.state_dict()), preprocessor.size
        encoded = preprocessor.encode(self.texts)
        for text in (UNSEEN, *ANY.values()):
            preprocessor.decode(ids_of(preprocessor, text))
        demand(preprocessor.size == size, f"size was {size}; after unseen texts were encoded it is {preprocessor.size}")
        demand(preprocessor.state_dict() == before, "the state changed as unseen texts were encoded")
        same("after unseen texts were encoded", preprocessor.encode(self.texts), encoded)

    def test_fitting_again_forgets(self) -> None:
        """A second fit, on other texts, leaves nothing of the first."""
        first, second = [*self.texts[::2]] * OFTEN, [*self.texts[1::2]] * OFTEN
        again, fresh = self.make(), self.make()
        again.fit(first)
        again.encode(first)
        again.fit(second)
        fresh.fit(second)
        demand(
            again.size == fresh.size, f"size is {again.size} after a second fit; the second alone gives {fresh.size}"
        )
        demand(again.state_dict() == fresh.state_dict(), "the state after a second fit is not that of the second alone")
        same("after a second fit", again.encode(self.texts), fresh.encode(self.texts))

    def test_fits_in_one_pass(self) -> None:
        """An iterator, which can be read once, teaches what a list does."""
        once, expected = self.make(), self.fitted()
        once.fit(text for text in [*self.texts] * OFTEN)
        demand(once.size == expected.size, f"size is {once.size} from an iterator, and {expected.size} from a list")
        same("fitted from an iterator", once.encode(self.texts), expected.encode(self.texts))

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
                same("before fitting", encoded, self.fitted().encode(self.texts))
            except AssertionError as error:
                raise AssertionError(f"encode gives ids that mean nothing, and no error; {error}") from error

    # The state --------------------------------------------------------------------------------------------------------

    def test_state_is_plain_json(self) -> None:
        """The state is a dict of plain JSON values, whatever the texts."""
        check_plain("state_dict()", self.fitted(*ANY.values()).state_dict())
        try:
            odd = self.fitted(*SURROGATES.values())
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
        texts = [*self.texts, UNSEEN, *ANY.values()]
        same("after loading", fresh.encode(texts), preprocessor.encode(texts))
        for text in texts:
            tokens = ids_of(preprocessor, text)
            got, expected = fresh.decode(tokens), preprocessor.decode(tokens)
            demand(got == expected, f"after loading {short(got)} is decoded, and {short(expected)} before")

    def test_loading_forgets(self) -> None:
        """One that was fitted on other texts before it loads a state is the same as a fresh one that loads it."""
        state = json.dumps(self.fitted().state_dict())
        used, fresh = self.make(), self.make()
        used.fit([UNSEEN, *self.texts[::-2], "words of its own"] * OFTEN)
        used.encode(self.texts)
        for one in (used, fresh):
            one.load_state_dict(json.loads(state))
        demand(used.size == fresh.size, f"size is {used.size} after loading over another vocabulary, else {fresh.size}")
        texts = [*self.texts, UNSEEN, *ANY.values()]
        same("loaded over another vocabulary", used.encode(texts), fresh.encode(texts))
        demand(used.state_dict() == fresh.state_dict(), "the state loaded over another vocabulary is another one")

    def test_bad_states_are_refused(self) -> None:
        """A state that it did not write is refused with a ValueError."""
        check_refuses_bad_states(json.loads(json.dumps(self.fitted().state_dict())), self.make)


_LIMITS = ("max_size", "vocabulary_size", "vocab_size", "max_tokens", "max_features", "max_vocab")
_RESERVED_IDS = 16
"""Ids that a vocabulary may have beyond its limit: padding, the unknown one, marks."""
_OFTEN, _TWICE, _ONCE = "dodo", "k", "bcefghijlmnpqrstuvxyz"
_WORDS = [spelled(number) for number in range(400)]


class OptionChecks(PreprocessorMaking):
    """What options do."""

    def test_order_of_texts_does_not_matter(self) -> None:
        """The same training texts in another order give the same ids, words of equal frequency included."""
        given = [*self.texts] * OFTEN
        one, other = self.make(), self.make()
        one.fit(given)
        other.fit(given[::-1])
        demand(one.size == other.size, f"size is {one.size}, and {other.size} for the training texts in reverse")
        same("fitted on the texts in reverse", other.encode(self.texts), one.encode(self.texts))

    def test_limits_are_kept(self) -> None:
        """``min_count`` and a limit on the vocabulary's size, where they are options, do what they say."""
        made = self.make()
        found = [name for name in _LIMITS if has_option(made, name)]
        if not found and not has_option(made, "min_count"):
            raise SkipTest("it has no option min_count or max_size")
        for name in found:
            self._check_size(name)
        if has_option(made, "min_count"):
            self._check_count()

    def _limited(self, **changed: Any) -> Preprocessor | None:
        """Fit with other options; ``None`` where they are refused."""
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
            known, whole = _used(made, [_OFTEN, _TWICE, *_ONCE, *_WORDS])
            if whole:
                continue  # it spells what is no token: the limit is not one of all ids
            most = limit + _RESERVED_IDS
            demand(made.size <= most, f"{name}={limit} gives {made.size} ids; {most} are the most that it can mean")
            demand(known <= limit, f"{name}={limit} lets {known} different tokens be known")
            ids = ids_of(made, _OFTEN)
            demand(made.unknown_id not in ids, f"{name}={limit} leaves out {_OFTEN!r}, the most frequent word of all")
        if 5 in sizes and 9 in sizes:
            grown = sizes[9] - sizes[5]
            demand(grown == 4, f"{name}=5 gives {sizes[5]} ids and {name}=9 gives {sizes[9]}; 4 more are right")

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
                wrong = f"{'un' if known else ''}known"
                demand(
                    spelled_out or _knows(made, text) == known,
                    f"min_count={count}: {text!r}, {times} times in training, is {wrong}",
                )

    def test_every_option(self) -> None:
        """Each other value of an option that is a ``bool``, a ``Literal`` or an enum passes the checks, too."""
        target = type(self.make())
        named = {option.name for option in options(target)}
        for what, changed in variants(target, {key: value for key, value in self.options.items() if key in named}):
            members = {"options": {**self.options, **changed}, "normalised": PreprocessorMaking.normalised}
            suite: Any = type(f"{type(self).__name__}_{what}", (type(self),), members)()
            try:
                suite.make()
            except (ValueError, UserError, ImportError):
                continue  # it contradicts another option, or needs what is not here
            hold(suite, _OF_OPTIONS, what)


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
    "fitting_again_forgets",
    "order_of_texts_does_not_matter",
    "state_is_taken_back",
    "loading_forgets",
    "reserved_names_are_texts",
    "texts_are_left_alone",
    "dropped_says_why",
    "long_words",
)
"""Checks that an option can make fail, of those that take little time."""


def _used(preprocessor: Preprocessor, texts: Sequence[str]) -> tuple[int, bool]:
    """Count the ids by which texts are known, marks that are in each text left out; say if none is unknown."""
    found = [{*part.tolist()} for part in torch.split(*_split(preprocessor, texts))]
    used, marks = set[int]().union(*found), set[int].intersection(*found)
    return len(used - marks - {preprocessor.unknown_id}), preprocessor.unknown_id not in used


def _split(preprocessor: Preprocessor, texts: Sequence[str]) -> tuple[torch.Tensor, list[int]]:
    encoded = preprocessor.encode(texts)
    return encoded.values, encoded.lengths.tolist()


def _knows(preprocessor: Preprocessor, text: str) -> bool:
    ids = ids_of(preprocessor, text)
    return bool(ids) and preprocessor.unknown_id not in ids
