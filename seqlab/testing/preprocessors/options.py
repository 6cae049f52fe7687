"""Checks of a preprocessor's options, and of the order of training texts."""

from collections.abc import Sequence
from typing import Any
from unittest import SkipTest

import torch

from seqlab.contracts import Preprocessor, UserError
from seqlab.discovery.signature import options
from seqlab.testing.plain import has_option
from seqlab.testing.preprocessors.making import OFTEN, PreprocessorMaking, ids_of, same, spelled
from seqlab.testing.suite import demand
from seqlab.testing.variants import hold, variants

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
