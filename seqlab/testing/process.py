"""Checks across processes, of pickling and of process-wide settings."""

import atexit
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO, final
from unittest import SkipTest

import numpy as np
import torch

from seqlab.contracts import Cell
from seqlab.testing.suite import demand


def pickled_size(value: Any) -> int:
    """Count the bytes of a value's pickle."""
    file = io.BytesIO()
    _Pickler(file, []).dump(value)
    return file.tell()


def pickled(value: Any) -> Any:
    """Pickle and unpickle; a class that no import finds again is let through, as that is no fault of its instances."""
    classes: list[type] = []
    file = io.BytesIO()
    _Pickler(file, classes).dump(value)
    file.seek(0)
    return _Unpickler(file, classes).load()


@final
class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, classes: list[type]) -> None:
        super().__init__(file)
        self.classes = classes

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, type) or _can_be_imported(obj):
            return None
        self.classes.append(obj)
        return len(self.classes) - 1


@final
class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, classes: list[type]) -> None:
        super().__init__(file)
        self.classes = classes

    def persistent_load(self, pid: int) -> type:
        return self.classes[pid]


def _can_be_imported(cls: type) -> bool:
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def seed_all(seed: int) -> None:
    """Seed the random numbers of torch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # the global one is meant


def random_states() -> dict[str, Any]:
    """Give the state of each global generator of random numbers, by whose it is, comparable with ``==``."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().tolist(),
        "Python": random.getstate(),
        "NumPy": (name, np.asarray(keys).tolist(), *rest),
    }


def settings() -> dict[str, Any]:
    """Give the settings of torch that hold for the whole process, by what they are called."""
    return {
        "whether gradients are enabled": torch.is_grad_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "the precision of float32 products": torch.get_float32_matmul_precision(),
        "whether algorithms are deterministic": torch.are_deterministic_algorithms_enabled(),
        "whether autograd looks for anomalies": torch.is_anomaly_enabled(),
        "whether denormal numbers are flushed to zero": not bool(torch.full((), 1e-40).mul(1.0)),
        "whether oneDNN is used": torch._C._get_mkldnn_enabled(),
    }


def restore(before: dict[str, Any]) -> None:
    """Set what :func:`settings` gave before, so that one plugin's fault is not the next one's."""
    torch.set_grad_enabled(before["whether gradients are enabled"])
    torch.set_default_dtype(before["the default dtype"])
    torch.set_num_threads(before["the number of threads"])
    torch.set_float32_matmul_precision(before["the precision of float32 products"])
    torch.use_deterministic_algorithms(before["whether algorithms are deterministic"])
    torch.autograd.set_detect_anomaly(before["whether autograd looks for anomalies"])
    torch.set_flush_denormal(before["whether denormal numbers are flushed to zero"])
    torch._C._set_mkldnn_enabled(before["whether oneDNN is used"])


@contextmanager
def unusual_settings() -> Iterator[dict[str, Any]]:
    """Choose settings that no plugin would choose by itself, for a while; give what :func:`settings` gives of them."""
    before = settings()
    chosen = {
        "the number of threads": before["the number of threads"] + 1,
        "the precision of float32 products": "high",
        "whether denormal numbers are flushed to zero": False,
    }
    restore({**before, **chosen})
    try:
        yield settings()
    finally:
        restore(before)


def unchanged(where: str, before: dict[str, Any]) -> None:
    """Demand that the settings are as they were; what was changed is set back.

    Raises:
        AssertionError: one was changed.
    """
    now = settings()
    restore(before)
    changed = [f"{name} (from {before[name]} to {value})" for name, value in now.items() if value != before[name]]
    demand(not changed, f"{where} changes a setting of the whole process: {', '.join(changed)}")


class Trainable:
    """The mode, the ``requires_grad`` and the ``.grad`` of cells, held against what they were.

    Args:
        cells: whose parameters are given a ``.grad`` that nothing may touch.
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

    def unchanged(self, where: str) -> None:
        """Demand that nothing changed.

        Raises:
            AssertionError: something did.
        """
        now = self._now()
        changed = [name for name in self.before if now.get(name) != self.before[name]]
        demand(not changed, f"{where} changes {', '.join(changed)}")


_START = "import sys; from seqlab.testing.process import serve; serve()"
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
