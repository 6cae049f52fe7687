"""Checks that the calls of a preprocessor leave no trace."""

import copy
import json
import os
import pickle
import subprocess
import sys
from unittest import SkipTest

import torch

from seqlab.contracts import Ragged
from seqlab.testing.pickling import pickled
from seqlab.testing.preprocessors.making import (
    ANY,
    OFTEN,
    UNSEEN,
    PreprocessorMaking,
    same,
)
from seqlab.testing.suite import demand

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

    def test_same_texts_same_ids(self) -> None:
        """Two that were fitted on the same texts give the same ids, at every call."""
        one, other = self.fitted(), self.fitted()
        encoded = one.encode(self.texts)
        same("a second call", one.encode(self.texts), encoded)
        same("another one fitted on the same texts", other.encode(self.texts), encoded)
        demand(one.state_dict() == other.state_dict(), "two that were fitted on the same texts have unequal states")

    def test_same_ids_in_another_process(self) -> None:
        """Ids do not depend on the order in which Python hashes texts, which each process draws anew."""
        expected = self.fitted().encode([*self.texts] * OFTEN)
        try:
            packed = pickle.dumps((
                [entry or os.getcwd() for entry in (*sys.path, "")],  # noqa: PTH109  # sys.path holds strings
                pickle.dumps(self.make()),
                [*self.texts] * OFTEN,
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
        same("in another process", Ragged(values, lengths), expected)

    def test_texts_are_left_alone(self) -> None:
        """Neither fit nor encode changes the list it is given."""
        preprocessor = self.make()
        for name, use in (("fit", preprocessor.fit), ("encode", preprocessor.encode)):
            texts = [*self.texts] * OFTEN
            use(texts)
            demand(texts == [*self.texts] * OFTEN, f"{name} changes the list that it is given")

    def test_copies_and_pickles(self) -> None:
        """A deep copy and a pickled one give the same ids, and share nothing with the original."""
        preprocessor = self.fitted()
        encoded = preprocessor.encode(self.texts)
        copied = copy.deepcopy(preprocessor)
        same("a deep copy", copied.encode(self.texts), encoded)
        same("a pickled one", pickled(preprocessor).encode(self.texts), encoded)
        copied.fit([UNSEEN, *self.texts[::-2]] * OFTEN)
        same("after a deep copy was fitted anew", preprocessor.encode(self.texts), encoded)
