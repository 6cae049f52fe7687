"""Calls in other Python processes, whose hash seeds differ; each is started once and forks for each call."""

import atexit
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO, final
from unittest import SkipTest

_START = "import sys; from seqlab.testing.elsewhere import serve; serve()"
_PATIENCE = 300.0
"""Seconds that a call may take."""
_PROCESSES = 2
"""A set of two texts has the same order in one other process half of the time."""


def call_elsewhere(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call an importable function in two processes, each with a ``PYTHONHASHSEED`` of its own.

    Returns:
        What it returned in each.

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
    found = []
    for seed in seeds:
        kind, value = _server(seed).ask(request)
        if kind == "missing":
            raise SkipTest(f"another process cannot import it: {value}")
        if kind == "failed":
            raise AssertionError(f"in another process it fails: {value}")
        found.append(value)
    return found


@cache
def _server(seed: str) -> "_Server":
    return _Server(seed)


@final
class _Server:
    """The other process, as seen from here."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # one thread: a process that is forked from one whose OpenMP threads wait can hang
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )
        self.owner = os.getpid()
        atexit.register(self._end)

    def ask(self, request: Any) -> tuple[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.owner != os.getpid() or self.process.poll() is not None:
            _server.cache_clear()
            return _server(self.seed).ask(request)
        watch = threading.Timer(_PATIENCE, self.process.kill)
        watch.start()
        try:
            _send(self.process.stdin, pickle.dumps(request))
            answer: tuple[str, Any] = pickle.loads(_receive(self.process.stdout))
        except (OSError, EOFError):
            _server.cache_clear()
            return "failed", f"it ended, or took more than {_PATIENCE:.0f} s"
        finally:
            watch.cancel()
        return answer

    def _end(self) -> None:
        if self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()


def serve() -> None:
    """Answer calls from standard input until it is closed; what the calls print is dropped."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    while True:
        try:
            request = _receive(requests)
        except EOFError:
            return
        _place(request)  # what it imports is there for the next call, too
        if not hasattr(os, "fork"):
            _send(answers, _answer(request))
            continue
        child = os.fork()
        if not child:
            _send(answers, _answer(request))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            _send(answers, pickle.dumps(("failed", f"it ended with status {status}")))


def _place(request: bytes) -> tuple[Any, str]:
    """Take over path, folder and environment of whoever asks; give the call, and why it cannot be made."""
    path, folder, environment, packed = pickle.loads(request)
    sys.path[:] = path
    os.environ.update({key: value for key, value in environment.items() if key != "PYTHONHASHSEED"})
    try:
        os.chdir(folder)
        return pickle.loads(packed), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _answer(request: bytes) -> bytes:
    call, fault = _place(request)
    if fault:
        return pickle.dumps(("missing", fault))
    function, arguments = call
    try:
        return pickle.dumps(("done", function(*arguments)))
    except SkipTest as error:
        return pickle.dumps(("missing", str(error)))
    except Exception as error:
        return pickle.dumps(("failed", f"{type(error).__name__}: {error}"))


def _send(stream: Any, data: bytes) -> None:
    stream.write(struct.pack("<q", len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> bytes:
    header = stream.read(8)
    if len(header) < 8:
        raise EOFError
    (size,) = struct.unpack("<q", header)
    data: bytes = stream.read(size)
    return data
