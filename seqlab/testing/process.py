"""Saved states, process-wide settings, random numbers, opened files, and calls in another process."""

import atexit
import io
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, final
from unittest import SkipTest

import numpy as np
import torch

from seqlab.contracts import Cell
from seqlab.testing.suite import require

# Pickles and JSON ----------------------------------------------------------------------------------------------------


def pickled_size(value: Any) -> int:
    """Return the size of a value's pickle in bytes."""
    return len(_dump(value, []))


def pickled(value: Any) -> Any:
    """Pickle and unpickle; a class that cannot be imported is passed through, as that is no fault of its instances."""
    classes: list[type] = []
    unpickler = pickle.Unpickler(io.BytesIO(_dump(value, classes)))
    unpickler.persistent_load = classes.__getitem__  # type: ignore[method-assign]  # an index
    return unpickler.load()


def _dump(value: Any, classes: list[type]) -> bytes:
    """Pickle; collect the classes that cannot be imported."""

    def persistent_id(one: Any) -> int | None:
        if not isinstance(one, type) or _can_be_imported(one):
            return None
        classes.append(one)
        return len(classes) - 1

    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    pickler.persistent_id = persistent_id  # type: ignore[method-assign]  # which the module documents
    pickler.dump(value)
    return file.getvalue()


def _can_be_imported(cls: type) -> bool:
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def to_json(what: str, value: Any, *, nan: bool = False) -> Any:
    """Write a value as JSON in UTF-8, and return what is read back."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=nan)
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} cannot be written as JSON: {error}") from error
    return json.loads(text)


def check_plain(what: str, state: Any) -> None:
    """Require a state to be a ``dict`` that JSON restores as it was."""
    require(isinstance(state, dict), f"{what} is a {type(state).__name__}, not a dict")
    restored: dict[str, Any] = to_json(what, state)
    lost = ", ".join(repr(key) for key in state if key not in restored or restored[key] != state[key])
    require(not lost, f"{what}: JSON does not restore {lost} (a tuple, or keys that are not texts?)")


_NONSENSE = {"?": [None]}


def check_refuses_bad_states(state: Mapping[str, Any], fresh: Callable[[], Any]) -> None:
    """Require a ``ValueError`` with a message for each corrupted copy of a state.

    Args:
        state: the right one, as JSON restores it.
        fresh: makes the object that is to refuse it.
    """
    bad: dict[str, Mapping[str, Any]] = {
        "of something else, {'no_such_key': [1]},": {"no_such_key": [1]},
        "with an additional key no_such_key": {**state, "no_such_key": [1]},
    }
    for key, value in state.items():
        bad[f"without {key}"] = {other: kept for other, kept in state.items() if other != key}
        for wrong in (_NONSENSE, [_NONSENSE]) if isinstance(value, list) else (_NONSENSE,):
            bad[f"whose {key} is {wrong}"] = {**state, key: wrong}
    for what, given in bad.items():
        try:
            fresh().load_state_dict(given)
        except ValueError as error:
            require(str(error), f"a state {what} raises a ValueError without a message")
        except Exception as error:
            raise AssertionError(f"a state {what} raises {type(error).__name__}, not ValueError: {error}") from error
        else:
            raise AssertionError(f"a state {what} is accepted")


# Files and folders ---------------------------------------------------------------------------------------------------

_EVENTS = frozenset({"open", "os.listdir", "os.scandir", "socket.connect", "subprocess.Popen", "urllib.Request"})
_opened: list[str] | None = None
_watched: int | None = None
_installed = False


@contextmanager
def record_reads() -> Iterator[list[str]]:
    """List the files, folders, connections and processes that this thread opens meanwhile, but for imports."""
    global _opened, _watched, _installed
    if not _installed:
        sys.addaudithook(_record)  # a hook cannot be removed; outside this context it is idle
        _installed = True
    _opened, _watched = [], threading.get_ident()
    try:
        yield _opened
    finally:
        _opened = _watched = None


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is None or event not in _EVENTS or threading.get_ident() != _watched or _is_python_itself():
        return
    _opened.append(f"{event} {arguments[0] if event != 'socket.connect' else arguments[1]!r}")


def _is_python_itself() -> bool:
    """Return whether an import, a look at installed packages or a traceback's source is what opens a file."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        importing = file == "<frozen importlib._bootstrap>" and frame.f_code.co_name == "_find_and_load"
        if importing or file.endswith("linecache.py") or f"importlib{os.sep}metadata" in file:
            return True
        frame = frame.f_back  # type: ignore[assignment]  # None ends it
    return False


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Change the working directory temporarily."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# Random numbers and settings -----------------------------------------------------------------------------------------


def seed_all(seed: int) -> None:
    """Seed the global random numbers of torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # the global one is meant


@contextmanager
def random_numbers(seed: int) -> Iterator[None]:
    """Seed the global random numbers temporarily."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        seed_all(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def random_states() -> dict[str, Any]:
    """Return the state of each global generator of random numbers by library, comparable with ``==``."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().tolist(),
        "Python": random.getstate(),
        "NumPy": (name, np.asarray(keys).tolist(), *rest),
    }


_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "whether gradients are enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the precision of float32 products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "whether algorithms are deterministic": (
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms,
    ),
    "whether autograd looks for anomalies": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "whether denormal numbers are flushed to zero": (
        lambda: not bool(torch.full((), 1e-40).mul(1.0)), torch.set_flush_denormal,
    ),
    "whether oneDNN is used": (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
}  # fmt: skip
"""Process-wide settings of torch: how to read and how to set each."""


def _settings() -> dict[str, Any]:
    return {name: read() for name, (read, _) in _SETTINGS.items()}


def _restore(before: Mapping[str, Any]) -> None:
    for name, (_, write) in _SETTINGS.items():
        write(before[name])


@contextmanager
def unusual_settings() -> Iterator[dict[str, Any]]:
    """Set, temporarily, what no plugin would set by itself; yield all settings."""
    before = _settings()
    chosen = {
        "the number of threads": before["the number of threads"] + 1,
        "the precision of float32 products": "high",
        "whether denormal numbers are flushed to zero": False,
    }
    _restore({**before, **chosen})
    try:
        yield _settings()
    finally:
        _restore(before)


def require_unchanged(where: str, before: Mapping[str, Any]) -> None:
    """Require the settings to be as they were; restore what was changed, so that later checks are not affected."""
    now = _settings()
    _restore(before)
    changed = [f"{name} (from {before[name]} to {value})" for name, value in now.items() if value != before[name]]
    require(not changed, f"{where} changes a setting of the whole process: {', '.join(changed)}")


class ParameterFlags:
    """Snapshot of the mode, ``requires_grad`` and ``.grad`` of cells.

    Args:
        cells: whose parameters are given a ``.grad`` that nothing may change.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        for parameter in (parameter for cell in cells for parameter in cell.parameters()):
            parameter.grad = torch.full_like(parameter, 3.0) if parameter.is_floating_point() else None
        self.before = self._now()

    def _now(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for index, cell in enumerate(self.cells):
            for name, module in cell.named_modules():
                found[f"training of {name or 'the cell'} {index}"] = module.training
            for name, parameter in cell.named_parameters():
                found[f"requires_grad of {name} of cell {index}"] = parameter.requires_grad
                found[f".grad of {name} of cell {index}"] = None if parameter.grad is None else parameter.grad.tolist()
        return found

    def require_unchanged(self, where: str) -> None:
        """Require them to be as they were."""
        now = self._now()
        changed = [name for name in self.before if now.get(name) != self.before[name]]
        require(not changed, f"{where} changes {', '.join(changed)}")


# Another process -----------------------------------------------------------------------------------------------------

_START = "from seqlab.testing.process import serve; serve()"
_TIMEOUT = 300.0
"""Seconds that a call may take."""
_PROCESSES = 2
"""A set of two texts has the same order in one other process half of the time."""


def call_elsewhere(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call an importable function in two processes, each with its own ``PYTHONHASHSEED``, and return both results.

    Raises:
        SkipTest: the arguments cannot be pickled, or the other process cannot import what they name.
        AssertionError: the call fails there.
    """
    try:
        packed = pickle.dumps((function, arguments))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SkipTest(f"it cannot be sent to another process: {error}") from error
    path = [entry or os.getcwd() for entry in (*sys.path, "")]  # noqa: PTH109  # sys.path holds strings
    request = (path, os.getcwd(), dict(os.environ), packed)  # noqa: PTH109  # the other process is sent strings
    seeds = [seed for seed in ("1", "2", "3") if seed != os.environ.get("PYTHONHASHSEED")][:_PROCESSES]
    results = []
    for seed in seeds:
        kind, value = _server(seed).ask(request)
        if kind == "missing":
            raise SkipTest(f"another process cannot import it: {value}")
        require(kind == "done", f"in another process it fails: {value}")
        results.append(value)
    return results


@cache
def _server(seed: str) -> "_Server":
    return _Server(seed)


@final
class _Server:
    """A process that answers calls by forking, so that none sees what another one did."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",  # a process forked while OpenMP threads wait can hang
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        command = [sys.executable, "-W", "ignore", "-c", _START]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.owner = os.getpid()
        atexit.register(self._end)

    def ask(self, request: Any) -> tuple[str, Any]:
        if self.owner != os.getpid() or self.process.poll() is not None:
            _server.cache_clear()
            return _server(self.seed).ask(request)
        watch = threading.Timer(_TIMEOUT, self.process.kill)
        watch.start()
        try:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            answer: tuple[str, Any] = pickle.load(self.process.stdout)
        except (OSError, EOFError):
            _server.cache_clear()
            return "failed", f"the process ended, or took more than {_TIMEOUT:.0f} s"
        finally:
            watch.cancel()
        return answer

    def _end(self) -> None:
        if self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()


def serve() -> None:
    """Answer calls from standard input until it is closed; discard what they print."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)

    def answer(one: tuple[str, Any]) -> None:
        answers.write(pickle.dumps(one))
        answers.flush()

    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        _enter(request)  # the next call finds imported what this one imports
        if not hasattr(os, "fork"):
            answer(_call(request))
            continue
        child = os.fork()
        if not child:
            answer(_call(request))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            answer(("failed", f"the process ended with status {status}"))


def _enter(request: tuple[list[str], str, dict[str, str], bytes]) -> tuple[Any, str]:
    """Take over the caller's path, folder and environment; return the call, or why it cannot be made."""
    path, folder, environment, packed = request
    sys.path[:] = path
    os.environ.update({key: value for key, value in environment.items() if key != "PYTHONHASHSEED"})
    try:
        os.chdir(folder)
        return pickle.loads(packed), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _call(request: tuple[list[str], str, dict[str, str], bytes]) -> tuple[str, Any]:
    call, fault = _enter(request)
    if fault:
        return "missing", fault
    function, arguments = call
    try:
        result = function(*arguments)
        pickle.dumps(result)
        return "done", result
    except SkipTest as error:
        return "missing", str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
