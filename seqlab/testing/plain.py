"""What tasks and preprocessors share: constructors that only check their arguments, and states of plain JSON."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from seqlab.discovery.signature import options
from seqlab.testing.suite import demand


def check_defaults(made: object) -> None:
    """Demand that the constructor of what was made has a default for every argument."""
    target: type = type(made)
    bare = [option.name for option in options(target) if option.supplied]
    demand(not bare, f"the constructor of {target.__name__} needs {', '.join(bare)}; each must have a default")


def has_option(made: object, name: str) -> bool:
    """Say whether the constructor of what was made takes an argument of this name."""
    target: type = type(made)
    return any(option.name == name for option in options(target))


# JSON ---------------------------------------------------------------------------------------------------------------


def written(what: str, value: Any, *, nan: bool = False) -> Any:
    """Write a value as JSON in UTF-8, and give what is read back."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=nan)
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} cannot be written as JSON: {error}") from error
    return json.loads(text)


def check_plain(what: str, state: Any) -> dict[str, Any]:
    """Demand that a state is a ``dict`` which JSON gives back as it was; give what was read back."""
    demand(isinstance(state, dict), f"{what} is a {type(state).__name__}, and no dict")
    again: dict[str, Any] = written(what, state)
    lost = [repr(key) for key in state if key not in again or again[key] != state[key]]
    demand(
        not lost, f"{what}: JSON does not give back {', '.join(lost)} as it was (a tuple, or keys that are no text?)"
    )
    return again


_NONSENSE = {"?": [None]}


def check_refuses_bad_states(state: dict[str, Any], fresh: Callable[[], Any]) -> None:
    """Demand a ``ValueError`` with a message for each state that is not the right one with something wrong in it.

    Args:
        state: the right one, as JSON gave it back.
        fresh: makes what is to refuse.
    """
    for what, wrong in _bad_states(state):
        try:
            fresh().load_state_dict(wrong)
        except ValueError as error:
            demand(str(error), f"a state {what} is refused without a word")
        except Exception as error:
            raise AssertionError(f"a state {what} gives {type(error).__name__}, and no ValueError: {error}") from error
        else:
            raise AssertionError(f"a state {what} is accepted")


def _bad_states(state: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "of something else, {'no_such_key': [1]},", {"no_such_key": [1]}
    yield "with a key too many, no_such_key,", {**state, "no_such_key": [1]}
    for key, value in state.items():
        yield f"without {key}", {other: kept for other, kept in state.items() if other != key}
        yield f"whose {key} is {_NONSENSE}", {**state, key: _NONSENSE}
        if isinstance(value, list):
            yield f"whose {key} is {[_NONSENSE]}", {**state, key: [_NONSENSE]}


# What is read -------------------------------------------------------------------------------------------------------

_EVENTS = frozenset({"open", "os.listdir", "os.scandir", "socket.connect", "subprocess.Popen", "urllib.Request"})
_seen: list[str] | None = None
_watched: int | None = None
_installed = False


@contextmanager
def reads() -> Iterator[list[str]]:
    """List what is opened by this thread meanwhile: files, folders, connections, processes; imports are left out."""
    global _seen, _watched, _installed
    if not _installed:
        sys.addaudithook(_note)  # there is no taking it away again; it is idle but for the time of this context
        _installed = True
    found: list[str] = []
    _seen, _watched = found, threading.get_ident()
    try:
        yield found
    finally:
        _seen = _watched = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None or event not in _EVENTS or threading.get_ident() != _watched or _is_python_itself():
        return
    _seen.append(f"{event} {arguments[0] if event != 'socket.connect' else arguments[1]!r}")


def _is_python_itself() -> bool:
    """Say whether an import, a look at installed packages or a traceback's source is what opens a file."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        importing = file == "<frozen importlib._bootstrap>" and frame.f_code.co_name == "_find_and_load"
        if importing or file.endswith("linecache.py") or f"importlib{os.sep}metadata" in file:
            return True
        frame = frame.f_back  # type: ignore[assignment]  # None ends it
    return False
