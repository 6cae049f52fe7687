"""Compiling the kernel on the machine where it runs, once."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import torch

from seqlab.io.atomic import replacing
from seqlab.io.cache import cache_path, locked

log = logging.getLogger("seqlab")

SOURCE = Path(__file__).with_name("scan.cpp")
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-w")
REALS = {torch.float32: "float", torch.float64: "double"}
SECONDS = 8.0
"""What a compilation takes, about; what a run must be able to win back."""


class NoCompilerError(Exception):
    """The kernel cannot be compiled here; the message says why."""


def march() -> str:
    """Say for which CPU is compiled: ``$SEQLAB_MARCH``, or else the one at hand."""
    return os.environ.get("SEQLAB_MARCH") or "native"


def library_path(tail: str, dtype: torch.dtype) -> Path:
    """Say where the library for a cell and a dtype is kept, by all that its machine code depends on.

    Raises:
        OSError: the cache folder cannot be made.
    """
    source = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    key = [source, FLAGS, REALS[dtype], tail, march(), os.environ.get("CXX"), torch.__version__, _cpu()]
    return cache_path("kernels", key, ".so")


@cache
def library(tail: str, dtype: torch.dtype) -> ctypes.CDLL:
    """Load the library, compiling it if nobody has yet; processes that come at the same time wait for the first.

    Raises:
        NoCompilerError: it cannot be compiled or loaded.
    """
    try:
        path = library_path(tail, dtype)
        with locked(path):
            if not path.exists():
                _compile(tail, dtype, path)
        # OpenMP is torch's own, already loaded: two of them would take each other's cores.
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        _known[tail, dtype] = None
        raise NoCompilerError(str(error)) from error
    except NoCompilerError:
        _known[tail, dtype] = None
        raise
    _known[tail, dtype] = True
    return loaded


_known: dict[tuple[str, torch.dtype], bool | None] = {}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no type for it
def compiled_before(tail: str, dtype: torch.dtype) -> bool | None:
    """Whether loading the library takes no time; ``None`` if it cannot be had. Compiles nothing.

    The files are looked at once in a process, so that what another one compiles meanwhile changes no running training.
    """
    key = tail, dtype
    if key not in _known:
        try:
            found = library_path(tail, dtype).exists()
            _known[key] = found or (False if _compiler() else None)
        except (OSError, NoCompilerError):
            _known[key] = None
    return _known[key]


def _compile(tail: str, dtype: torch.dtype, path: Path) -> None:
    compiler = _compiler()
    log.info("compiling the fused kernel of %s for %s; it is kept in %s", tail, REALS[dtype], path.parent)
    started = time.perf_counter()
    with replacing(path) as linked, tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "scan.o"
        defines = [f"-DREAL={REALS[dtype]}", f"-DTAIL={tail}"]
        _run([*compiler, *FLAGS, "-fopenmp", f"-march={march()}", *defines, "-c", str(SOURCE), "-o", str(made)])
        undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
        _run([*compiler, "-shared", *undefined, str(made), "-o", str(linked)])
    log.info("compiled in %.1f s", time.perf_counter() - started)


def _compiler() -> list[str]:
    asked = os.environ.get("CXX")
    if asked is not None:
        words = asked.split()
        if not words or shutil.which(words[0]) is None:
            raise NoCompilerError(f"CXX={asked} is no program here")
        return words
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise NoCompilerError("there is no C++ compiler (c++, g++ or clang++); install one, or name it by CXX")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise NoCompilerError(f"{command[0]} failed: {lines[0].strip()}")


@cache
def _cpu() -> str:
    """Name the CPU's features, so that machines that share a folder do not run one another's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = {line for line in lines if line.partition(":")[0].strip() in ("flags", "Features", "model name")}
    return " ".join([platform.machine(), *sorted(told)])
