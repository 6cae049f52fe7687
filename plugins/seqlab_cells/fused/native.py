"""The C++ kernel: compiled once on the machine where it runs, and called through ctypes."""

import contextlib
import ctypes
import hashlib
import logging
import math
import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from bisect import bisect_left, insort
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from seqlab.io.cache import cache_path, locked
from seqlab.recurrence.graphs import assume_constant_result
from seqlab_cells.weights import Layer, Results

log = logging.getLogger("seqlab")

SOURCE = Path(__file__).with_name("scan.cpp")
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-w")
REALS = {torch.float32: "float", torch.float64: "double"}


class NoCompilerError(Exception):
    """The kernel cannot be compiled here; the message says why."""


# ---------------------------------------------------------------------------------------------------- compilation


def march() -> str:
    """Return the CPU that is compiled for: ``$SEQLAB_MARCH``, or else ``native``."""
    return os.environ.get("SEQLAB_MARCH") or "native"


def library_path(epilogue: str, dtype: torch.dtype) -> Path:
    """Return the path of the library for an epilogue and a dtype, by all that its machine code depends on.

    Raises:
        OSError: the cache folder cannot be made.
    """
    source = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    key = [source, FLAGS, REALS[dtype], epilogue, march(), os.environ.get("CXX"), torch.__version__, _cpu()]
    return cache_path("kernels", key, ".so")


@cache
def library(epilogue: str, dtype: torch.dtype) -> ctypes.CDLL:
    """Load the library; compile it where no process has yet, one at a time.

    Raises:
        NoCompilerError: it cannot be compiled or loaded.
    """
    try:
        path = library_path(epilogue, dtype)
        with locked(path):
            if not path.exists():
                _compile(epilogue, dtype, path)
        # OpenMP is torch's own, already loaded: two of them would take each other's cores.
        loaded = ctypes.CDLL(str(path))
    except (OSError, NoCompilerError) as error:
        _known[epilogue, dtype] = None
        raise NoCompilerError(str(error)) from error
    _known[epilogue, dtype] = True
    return loaded


_known: dict[tuple[str, torch.dtype], bool | None] = {}


@assume_constant_result
def compiled_before(epilogue: str, dtype: torch.dtype) -> bool | None:
    """Return whether the library is compiled already; ``None`` if it cannot be. Compiles nothing.

    The files are looked up once in a process, so that what another one compiles meanwhile changes no running training.
    """
    key = epilogue, dtype
    if key not in _known:
        try:
            found = library_path(epilogue, dtype).exists()
            _known[key] = found or (False if _compiler() else None)
        except (OSError, NoCompilerError):
            _known[key] = None
    return _known[key]


def _compile(epilogue: str, dtype: torch.dtype, path: Path) -> None:
    compiler = _compiler()
    log.info("compiling the fused kernel of %s for %s; it is kept in %s", epilogue, REALS[dtype], path.parent)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made, linked = Path(folder) / "scan.o", Path(folder) / "scan.so"
        defines = [f"-DREAL={REALS[dtype]}", f"-DEPILOGUE={epilogue}"]
        _run([*compiler, *FLAGS, "-fopenmp", f"-march={march()}", *defines, "-c", str(SOURCE), "-o", str(made)])
        undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
        _run([*compiler, "-shared", *undefined, str(made), "-o", str(linked)])
        linked.replace(path)
    log.info("compiled in %.1f s", time.perf_counter() - started)


def _compiler() -> list[str]:
    asked = os.environ.get("CXX")
    if asked is not None:
        command = asked.split()
        if not command or shutil.which(command[0]) is None:
            raise NoCompilerError(f"CXX={asked} is not an installed program")
        return command
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise NoCompilerError("no C++ compiler (c++, g++ or clang++) found; install one, or name it by CXX")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise NoCompilerError(f"{command[0]} failed: {lines[0].strip()}")


@cache
def _cpu() -> str:
    """Return the CPU's features, so that machines that share a folder do not run one another's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = {line for line in lines if line.partition(":")[0].strip() in ("flags", "Features", "model name")}
    return " ".join([platform.machine(), *sorted(told)])


# --------------------------------------------------------------------------------------------------------- memory

LARGE = 1 << 20
"""Bytes from which on a tensor comes from the pool."""
MOST = 1 << 30
"""Bytes that the pool keeps at most."""


class Pool:
    """Memory that large tensors of the kernel use again.

    What a long sequence keeps for its backward pass is tens of megabytes, which the allocator gives back to the system
    after every step and asks for again; each page is then zeroed anew and faulted in, which took nearly half of the
    time of short steps. Memory of the pool is kept, on huge pages where the system has them.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # garbage collection may return memory in the middle of another call
        self._free: list[tuple[int, int]] = []
        self._pieces: dict[int, mmap.mmap] = {}
        self._next = 0
        self._process = os.getpid()

    @property
    def held(self) -> int:
        """Bytes kept for later."""
        return sum(size for size, _ in self._free)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor, as :func:`torch.empty` does; its memory returns when it is freed."""
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size < LARGE:
            return torch.empty(shape, dtype=dtype)
        size = -(-size // LARGE) * LARGE
        key, piece = self._take(size)
        lease = (ctypes.c_char * len(piece)).from_buffer(piece)
        weakref.finalize(lease, self._give_back, key, piece).atexit = False
        return torch.frombuffer(lease, dtype=dtype, count=count).view(shape)

    def _take(self, size: int) -> tuple[int, mmap.mmap]:
        with self._lock:
            if os.getpid() != self._process:  # a fork's copies are its parent's pages
                self._free, self._pieces, self._process = [], {}, os.getpid()
            at = bisect_left(self._free, (size, -1))
            if at < len(self._free) and self._free[at][0] <= 2 * size:
                _, key = self._free.pop(at)
                return key, self._pieces.pop(key)
            self._next += 1
            key = self._next
        piece = mmap.mmap(-1, size)
        with contextlib.suppress(OSError, AttributeError, ValueError):
            piece.madvise(mmap.MADV_HUGEPAGE)
        return key, piece

    def _give_back(self, key: int, piece: mmap.mmap) -> None:
        with self._lock:
            if os.getpid() == self._process and self.held + len(piece) <= MOST:
                self._pieces[key] = piece
                insort(self._free, (len(piece), key))


POOL = Pool()


# ---------------------------------------------------------------------------------------------------------- calls

_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_int64


class Problem(ctypes.Structure):
    """The struct of the same name in ``scan.cpp``."""

    _fields_ = (
        *((name, _SIZE) for name in ("time", "batch", "input", "hidden", "directions", "threads", "rebuild")),
        *((name, _SIZE) for name in ("x_time", "x_batch")),
        *((name, _POINTER) for name in ("x", "lengths")),
        *((name, _POINTER * 2) for name in ("h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh")),
        *((name, _POINTER) for name in ("y", "h_end", "c_end", "kept", "workspace")),
        *((name, _POINTER) for name in ("dy", "dh_end", "dc_end", "dx", "dh0", "dc0", "dw")),
    )


def kept_per_step(layer: Layer) -> int:
    """Return the numbers kept for the gradient of one row's step, with room for whole vectors of any CPU."""
    per_unit = {"none": 0, "gates": layer.epilogue.kept, "recompute": layer.epilogue.states - 1}[layer.save]
    return per_unit * (-(-layer.hidden // 16) * 16)


def forward(layer: Layer) -> Results:
    """Scan one layer, as :func:`.ops.fused_scan` does."""
    x, directions, hidden = layer.x, layer.directions, layer.hidden
    time, batch, _ = x.shape
    y = POOL.empty((time, batch, directions * hidden), x.dtype)
    h_end, c_end = (x.new_empty(count, batch, hidden) for count in (directions, layer.c_directions))
    kept = POOL.empty((directions * time * batch * kept_per_step(layer),), x.dtype)
    problem, held = problem_of(layer)
    problem.y, problem.h_end, problem.c_end = y.data_ptr(), h_end.data_ptr(), c_end.data_ptr()
    problem.kept = kept.data_ptr() if layer.save != "none" else None
    _call("forward", problem, layer)
    del held
    return y, h_end, c_end, kept


def backward(
    layer: Layer, gradients: Sequence[Tensor | None], y: Tensor, kept: Tensor, wanted: Sequence[bool]
) -> Results:
    """Differentiate the scan.

    Args:
        layer: the arguments of the scan.
        gradients: of the outputs and of the final h and c; ``None`` for zero.
        y: the outputs.
        kept: what the scan kept.
        wanted: whether the gradients of x and of the weights are.
    """
    x, directions, hidden = layer.x, layer.directions, layer.hidden
    time, batch, size = x.shape
    dx = POOL.empty((directions, time, batch, size) if wanted[0] else (0,), x.dtype)
    dh0, dc0 = (x.new_empty(count, batch, hidden) for count in (directions, layer.c_directions))
    per_direction = layer.epilogue.gates * hidden * (size + hidden + 2)
    dw = x.new_empty((directions, per_direction) if wanted[1] else (0,))
    problem, held = problem_of(layer)
    given = [None if each is None else each.contiguous() for each in gradients]
    problem.dy, problem.dh_end, problem.dc_end = (None if each is None else each.data_ptr() for each in given)
    problem.y, problem.kept = y.data_ptr(), kept.data_ptr()
    problem.dh0, problem.dc0 = dh0.data_ptr(), dc0.data_ptr()
    problem.dx = dx.data_ptr() if wanted[0] else None
    problem.dw = dw.data_ptr() if wanted[1] else None
    _call("backward", problem, layer)
    del held, given
    if wanted[0]:
        dx = dx[0] if directions == 1 else dx.sum(0)
    return dx, dh0, dc0, dw


def problem_of(layer: Layer) -> tuple[Problem, list[Tensor]]:
    """Fill in what forward and backward share; return it with the tensors that must outlive the call."""
    x = layer.x if layer.x.stride(2) == 1 or layer.x.shape[2] == 1 else layer.x.contiguous()
    layer = layer._replace(
        states=[each.contiguous() for each in layer.states], weights=[each.contiguous() for each in layer.weights]
    )
    held = [x, *layer.states, *layer.weights]
    problem = Problem(time=x.shape[0], batch=x.shape[1], input=x.shape[2], hidden=layer.hidden)
    problem.directions, problem.threads = layer.directions, torch.get_num_threads()
    problem.rebuild = layer.save == "recompute"
    problem.x_time, problem.x_batch, problem.x = x.stride(0), x.stride(1), x.data_ptr()
    if layer.lengths is not None:
        held.append(layer.lengths.to(torch.int64).contiguous())
        problem.lengths = held[-1].data_ptr()
    for d in range(layer.directions):
        for tensor, name in zip(layer.state(d), ("h0", "c0"), strict=False):
            getattr(problem, name)[d] = tensor.data_ptr()
        for tensor, name in zip(layer.weight(d), ("w_ih", "w_hh", "b_ih", "b_hh"), strict=True):
            getattr(problem, name)[d] = tensor.data_ptr()
    return problem, held


def _call(name: str, problem: Problem, layer: Layer) -> None:
    compiled = library(layer.epilogue.name, layer.x.dtype)
    measure = getattr(compiled, f"{name}_workspace")
    measure.restype = ctypes.c_int64
    workspace = POOL.empty((measure(ctypes.byref(problem)) + 64,), torch.uint8)
    start = workspace.data_ptr()
    problem.workspace = start + -start % 64
    getattr(compiled, name)(ctypes.byref(problem))
