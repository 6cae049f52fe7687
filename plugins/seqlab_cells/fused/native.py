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
import struct
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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
        for name in ("forward", "backward", "forward_replicas_workspace", "backward_replicas_workspace"):
            getattr(loaded, name).restype = ctypes.c_int64
        for name in ("forward", "backward"):
            getattr(loaded, name).argtypes = ctypes.c_void_p, ctypes.c_int64
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
HUGE = 1 << 21
"""Bytes of a huge page, which a piece of the pool starts at and is a multiple of."""
_PRIVATE: Any = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
MOST = 1 << 30
"""Bytes that the pool keeps at most."""


class Piece(NamedTuple):
    """Memory of a pool."""

    size: int
    address: int


class _Lease:
    """What holds a piece for a tensor and returns it; mixed into an array of ctypes, which a tensor can be made of."""

    pool: "Pool"
    piece: Piece

    def __del__(self) -> None:
        self.pool.give_back(self.piece)


@cache
def _lease_type(size: int) -> Any:
    return type("Lease", (_Lease, ctypes.c_char * size), {})


class Pool:
    """Memory that large tensors of the kernel use again, and its workspaces.

    What a long sequence keeps for its backward pass is tens of megabytes, which the allocator gives back to the system
    after every step and asks for again; each page is then zeroed anew and faulted in, which took nearly half of the
    time of short steps. Memory of the pool is kept, on huge pages where the system has them: those of private memory,
    for few systems have them for shared memory, which :mod:`mmap` gives unless told otherwise.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # garbage collection may return memory in the middle of another call
        self._free: list[Piece] = []
        self._pieces: dict[int, tuple[mmap.mmap, int]] = {}  # by address: the mapping, and where in it
        self.held = 0
        """Bytes kept for later."""

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor, as :func:`torch.empty` does; its memory returns when it is freed."""
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size < LARGE:
            return torch.empty(shape, dtype=dtype)
        piece = self.take(size)
        lease = _lease_type(piece.size).from_buffer(*self._pieces[piece.address])
        lease.pool, lease.piece = self, piece
        return torch.frombuffer(lease, dtype=dtype, count=count).view(shape)

    def take(self, size: int) -> Piece:
        """Return uninitialised memory of at least this size, at the start of a huge page."""
        size = -(-size // HUGE) * HUGE
        with self._lock:
            at = bisect_left(self._free, (size, -1))
            if at < len(self._free) and self._free[at].size <= 2 * size:
                piece = self._free.pop(at)
                self.held -= piece.size
                return piece
        memory = mmap.mmap(-1, size + HUGE, **_PRIVATE)
        with contextlib.suppress(OSError, AttributeError, ValueError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        offset = -start % HUGE
        self._pieces[start + offset] = memory, offset
        return Piece(size, start + offset)

    def give_back(self, piece: Piece) -> None:
        """Keep the memory for later, or release it where the pool keeps enough."""
        with self._lock:
            if self.held + piece.size <= MOST:
                self.held += piece.size
                insort(self._free, piece)
            else:
                self._pieces.pop(piece.address, None)


POOL = Pool()


# ---------------------------------------------------------------------------------------------------------- calls

_POINTER = ctypes.c_void_p
_PAIR = ctypes.c_void_p * 2
_SIZE = ctypes.c_int64
_GIVEN = struct.Struct("23q")
"""The fields of a problem before its results: at once, for each assignment by name takes as long as all of these."""


class Problem(ctypes.Structure):
    """The struct of the same name in ``scan.cpp``."""

    _fields_ = (
        *((name, _SIZE) for name in ("time", "batch", "input", "hidden", "directions", "threads", "rebuild")),
        *((name, _SIZE) for name in ("x_time", "x_batch")),
        *((name, _POINTER) for name in ("x", "lengths")),
        *((name, _PAIR) for name in ("h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh")),
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
    layer: Layer,
    gradients: Sequence[Tensor | None],
    y: Tensor,
    kept: Tensor,
    wanted: Sequence[bool],
    dw: Tensor | None = None,
) -> Results:
    """Differentiate the scan.

    Args:
        layer: the arguments of the scan.
        gradients: of the outputs and of the final h and c; ``None`` for zero.
        y: the outputs.
        kept: what the scan kept.
        wanted: whether the gradients of x and of the weights are.
        dw: where the weights' gradients go; a new tensor if ``None``.
    """
    x, directions, hidden = layer.x, layer.directions, layer.hidden
    time, batch, size = x.shape
    shape = (time, batch, size) if directions == 1 else (directions, time, batch, size)
    dx = POOL.empty(shape if wanted[0] else (0,), x.dtype)
    dh0, dc0 = (x.new_empty(count, batch, hidden) for count in (directions, layer.c_directions))
    if dw is None:
        per_direction = layer.epilogue.gates * hidden * (size + hidden + 2)
        dw = x.new_empty((directions, per_direction) if wanted[1] else (0,))
    problem, held = problem_of(layer)
    for name, each in zip(("dy", "dh_end", "dc_end"), gradients, strict=True):
        if each is not None:
            held.append(each.contiguous())
            setattr(problem, name, held[-1].data_ptr())
    problem.y, problem.kept = y.data_ptr(), kept.data_ptr()
    problem.dh0, problem.dc0 = dh0.data_ptr(), dc0.data_ptr()
    problem.dx = dx.data_ptr() if wanted[0] else None
    problem.dw = dw.data_ptr() if wanted[1] else None
    _call("backward", problem, layer)
    del held
    if wanted[0] and directions > 1:
        dx = dx.sum(0)
    return dx, dh0, dc0, dw


def problem_of(layer: Layer) -> tuple[Problem, list[Tensor]]:
    """Fill in what forward and backward share; return it with the tensors that must outlive the call."""
    x, directions = layer.x, layer.directions
    time, batch, size = x.shape
    if x.stride(2) != 1 and size != 1:
        x = x.contiguous()
    held = [x, *[each.contiguous() for each in layer.states], *[each.contiguous() for each in layer.weights]]
    at = [each.data_ptr() for each in held]
    lengths = 0
    if layer.lengths is not None:
        held.append(layer.lengths.to(torch.int64).contiguous())
        lengths = held[-1].data_ptr()
    first, states = 1 + len(layer.states), layer.epilogue.states
    second = directions - 1  # the second direction's, or the first's again where there is none
    h0, c0 = at[1:first:states], at[2:first:states] if states == 2 else (0, 0)
    weights, others = at[first : first + 4], at[first + 4 * second :]
    problem = Problem()
    _GIVEN.pack_into(
        problem, 0, time, batch, size, layer.hidden, directions, torch.get_num_threads(), layer.save == "recompute",
        x.stride(0), x.stride(1), at[0], lengths, h0[0], h0[second], c0[0], c0[second],
        *[pointer for pair in zip(weights, others, strict=True) for pointer in pair],
    )  # fmt: skip
    return problem, held


def _call(name: str, problem: Problem, layer: Layer) -> None:
    run = getattr(library(layer.epilogue.name, layer.x.dtype), name)
    needed = HUGE  # the smallest piece, which is enough for most
    while True:
        workspace = POOL.take(needed)
        try:
            problem.workspace = workspace.address
            needed = run(ctypes.byref(problem), workspace.size)
        finally:
            POOL.give_back(workspace)
        if needed <= workspace.size:
            return
