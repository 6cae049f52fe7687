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

from seqlab.contracts import Preprocessor, Ragged
from seqlab.testing.elsewhere import call_elsewhere
from seqlab.testing.pickling import pickled, pickled_size
from seqlab.testing.preprocessors.making import (
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
from seqlab.testing.suite import demand
from seqlab.testing.taskdata import random_numbers

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
        """What ``standalone`` writes encodes as this does."""
        preprocessor = self.fitted()
        if (files := preprocessor.standalone()) is None:
            raise SkipTest("it writes no Python of its own")
        demand("encode.py" in files, f"standalone writes {', '.join(files)}, without encode.py")
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
