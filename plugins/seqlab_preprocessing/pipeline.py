"""Pipeline of a preprocessor: a chain of named steps, then a tokeniser with a vocabulary."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import isclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from seqlab import Choice, Preprocessor
from seqlab.errors import UserError
from seqlab.plugins import find
from seqlab_preprocessing.parallel import mapped
from seqlab_preprocessing.steps import nfc

Step = Callable[[str], str]

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Token ids that every vocabulary has, and the first of its own."""
UNKNOWN_SYMBOL = "<unk>"
"""The unknown token, as it is shown and as corpora such as the Penn Treebank write it."""
STEPS = Choice((("lower",), (), ("nfkc", "lower"), ("lower", "ascii"), ("lower", "digits")))
"""Case and Unicode steps to search."""
_MAX_STEPS = 100


@final
class Chain:
    """Steps in order, some of which may be filters.

    Args:
        names: plugins in the entry-point group ``seqlab.steps``; ``name:argument`` for those that take one.
        normalise: whether texts are brought to Unicode's NFC first.
        by_line: whether each line is cleaned by itself, so that no step can remove line ends.

    Raises:
        ValueError: ``names`` is not a list, or a plugin is not a step.
        UserError: a step does not exist, or needs a package that is not installed.
    """

    def __init__(self, names: Sequence[str] = (), *, normalise: bool = True, by_line: bool = False) -> None:
        if isinstance(names, str):
            raise ValueError(f"steps must be a list of names, such as [{names}], got {names!r}")
        if len(names) > _MAX_STEPS:
            raise ValueError(f"steps must have at most {_MAX_STEPS} names, got {len(names):,}")
        self.names = tuple(names)
        self.by_line = by_line
        self.steps = [_step(name) for name in self.names]
        """The steps that ``names`` lists."""
        self._named = [*([("nfc", nfc)] if normalise else []), *zip(self.names, self.steps, strict=True)]

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Apply all steps to each text; filters change none."""
        return [self._cleaned(text) for text in texts]

    def reasons(self, texts: Sequence[str]) -> list[str | None]:
        """Return why each text is left out of training, or ``None``.

        A filter said so (``language: en, not vi``), or nothing but white space is left (``empty after html``).
        """
        return [self._reason(text) for text in texts]

    def _cleaned(self, text: str) -> str:
        for _, step in self._named:
            text = self._apply(step, text)
        return text

    def _apply(self, step: Step, text: str) -> str:
        return "\n".join(map(step, text.split("\n"))) if self.by_line else step(text)

    def _reason(self, text: str) -> str | None:
        if not text.strip():
            return "empty"
        for name, step in self._named:
            judge = getattr(step, "reason", None)
            if judge is not None and (reason := judge(text)):
                return str(reason)
            text = self._apply(step, text)
            if not text.strip():
                return f"empty after {name}"
        return None


def _step(full_name: str) -> Step:
    """Look a step up and try it on an empty text, so that a missing package shows before any text is read."""
    name, colon, argument = full_name.partition(":")
    step = found = find("step", name).load()
    if isclass(found):
        if not argument:
            raise ValueError(f"steps: {name} needs an argument, as in language:vi")
        step = step(argument)
    elif colon:
        raise ValueError(f"steps: {name} takes no argument, got {argument!r}")
    if not callable(step):
        raise ValueError(f"steps: {name} must be a function from text to text")
    try:
        tried = step("")
    except UserError:
        raise
    except Exception as error:
        raise ValueError(f"steps: {name} fails on an empty text: {type(error).__name__}: {error}") from error
    if not isinstance(tried, str):
        raise ValueError(f"steps: {name} must return text, got {type(tried).__name__}")
    return step  # type: ignore[no-any-return]  # an entry point can be anything


class Pipeline(Preprocessor):
    """Preprocessor with a chain of steps; a subclass maps clean texts to ids from 2 on.

    Args:
        chain: applied to each text first.
        min_count: minimum count of a token in training; the others are unknown.
        max_size: maximum number of tokens in the vocabulary.

    Raises:
        ValueError: ``min_count`` or ``max_size`` is not positive.
    """

    def __init__(self, chain: Chain, min_count: int = 1, max_size: int | None = None) -> None:
        check_at_least("min_count", min_count, 1)
        check_at_least("max_size", max_size, 1)
        self.chain, self.min_count, self.max_size = chain, min_count, max_size

    def cleaned(self, texts: Iterable[str]) -> Iterator[str]:
        """Apply the steps to texts, in several processes where that pays; texts are read as they are needed."""
        if not self.chain.names:  # NFC alone is faster than sending texts to other processes
            return (text for given in texts for text in self.chain.clean([given]))
        return mapped(self.chain.clean, texts)

    def dropped(self, texts: Sequence[str]) -> dict[int, str]:
        """Return which of these texts are left out of training, with the reason."""
        return {index: reason for index, reason in enumerate(mapped(self.chain.reasons, texts)) if reason}

    @property
    def size(self) -> int:
        """Number of token ids."""
        self._check_fitted()
        return self._count()

    @property
    def unknown_id(self) -> int:
        """Id of every token that is not in the vocabulary."""
        return UNKNOWN

    @property
    def lossy(self) -> str:
        """Which of ``min_count`` and ``max_size`` make tokens unknown; empty if neither does."""
        given = {"min_count": self.min_count if self.min_count > 1 else None, "max_size": self.max_size}
        named = " and ".join(f"{name}={value}" for name, value in given.items() if value is not None)
        return f"{named} makes rare tokens unknown" if named else ""

    @abstractmethod
    def _count(self) -> int:
        """Count the token ids; at most 2 before fitting."""

    def _check_fitted(self) -> None:
        if self._count() <= FIRST:
            raise ValueError("the vocabulary is not known yet; call fit() or load_state_dict() first")

    def _known(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Return token ids without padding; a ValueError where one is outside this vocabulary."""
        self._check_fitted()
        wanted = np.asarray(ids, np.int64).reshape(-1)
        wrong = wanted[(wanted < 0) | (wanted >= self._count())]
        if len(wrong):
            raise ValueError(f"token ids must be from 0 to {self._count() - 1}, got {wrong[0]}")
        kept: NDArray[np.int64] = wanted[wanted != PADDING]
        return kept


def check_at_least(name: str, value: int | None, least: int) -> None:
    """Check that an option is large enough, or ``None``.

    Raises:
        ValueError: it is too small.
    """
    if value is not None and value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")
