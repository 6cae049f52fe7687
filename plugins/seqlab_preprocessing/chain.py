"""A chain of named steps."""

from collections.abc import Callable, Sequence
from inspect import isclass
from typing import final

from seqlab.errors import UserError
from seqlab.plugins import find
from seqlab_preprocessing.steps.forms import normalised

MOST_STEPS = 100


@final
class Chain:
    """Steps in their order, and which of them leave a text out of training.

    Args:
        names: names of plugins in the entry-point group ``seqlab.steps``; ``name:argument`` for those that take one.
        nfc: whether texts are brought to Unicode's NFC first.
        by_line: whether each line is cleaned by itself, so that no step can take the line ends out.

    Raises:
        ValueError: ``names`` is no list, or a step cannot be one.
        UserError: there is no such step, or it needs a package that is not installed.
    """

    def __init__(self, names: Sequence[str] = (), *, nfc: bool = True, by_line: bool = False) -> None:
        if isinstance(names, str):
            raise ValueError(f"steps is {names!r}; it must be a list of names, such as [{names}]")
        if len(names) > MOST_STEPS:
            raise ValueError(f"steps has {len(names):,} names; there may be {MOST_STEPS} at most")
        self.names = tuple(names)
        self.by_line = by_line
        self._steps: list[tuple[str, Callable[[str], str]]] = [(name, _step(name)) for name in self.names]
        if nfc:
            self._steps.insert(0, ("nfc", _nfc))

    def __bool__(self) -> bool:
        """Whether there is any step that the user named."""
        return bool(self.names)

    @property
    def steps(self) -> list[Callable[[str], str]]:
        """The steps that the user named."""
        return [step for _, step in self._steps[-len(self.names) :]] if self.names else []

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Do all steps to each text; filters change none."""
        return [self._cleaned(text) for text in texts]

    def reasons(self, texts: Sequence[str]) -> list[str | None]:
        """Say of each text why it is not fit to be trained on; ``None`` if it is.

        A filter said so (``language: en, not vi``), or nothing but blanks is left (``empty after html``).
        """
        return [self._reason(text) for text in texts]

    def _cleaned(self, text: str) -> str:
        for _, step in self._steps:
            text = self._done(step, text)
        return text

    def _done(self, step: Callable[[str], str], text: str) -> str:
        return "\n".join(map(step, text.split("\n"))) if self.by_line else step(text)

    def _reason(self, text: str) -> str | None:
        if not text.strip():
            return "empty"
        for name, step in self._steps:
            judge = getattr(step, "reason", None)
            if judge is not None and (reason := judge(text)):
                return str(reason)
            text = self._done(step, text)
            if not text.strip():
                return f"empty after {name}"
        return None


def _nfc(text: str) -> str:
    return normalised("NFC", text)


def _step(full_name: str) -> Callable[[str], str]:
    """Look a step up, and try it on nothing, so that a missing package shows before any text is read."""
    name, colon, argument = full_name.partition(":")
    step = found = find("step", name).load()
    if isclass(found):
        if not argument:
            raise ValueError(f"steps: {name} needs an argument, as in language:vi")
        step = step(argument)
    elif colon:
        raise ValueError(f"steps: {name} takes no argument, but is given {argument!r}")
    if not callable(step):
        raise ValueError(f"steps: {name} is no function from text to text")
    try:
        tried = step("")
    except UserError:
        raise
    except Exception as error:
        raise ValueError(f"steps: {name} fails on an empty text: {type(error).__name__}: {error}") from error
    if not isinstance(tried, str):
        raise ValueError(f"steps: {name} makes a {type(tried).__name__} of a text, and no text")
    return step  # type: ignore[no-any-return]  # an entry point can be anything
