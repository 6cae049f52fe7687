"""Environment of a run, as recorded in ``results.json``: versions, hardware, memory, threads and commit."""

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqlab._version import __version__
from seqlab.distributed.devices import Threads


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    found = {"seqlab": __version__, "python": platform.python_version(), "platform": platform.platform()}
    found["torch"] = str(torch.__version__)  # with its build, which is missing in the metadata of CUDA wheels
    return found | _package_versions()


@cache
def _package_versions() -> dict[str, str]:
    found = {}
    for package in ("pytorch-lightning", "torchmetrics", "hydra-core", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> dict[str, Any]:
    """Return the processor, its number of threads, and the GPUs where there are any."""
    found: dict[str, Any] = {"cpu": _processor(), "cpu_threads": os.cpu_count()}
    if torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def peak_memory() -> dict[str, int]:
    """Return the peak memory in bytes so far: of the process, and of the GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
    return peak


def compute_settings(model: nn.Module, threads: Threads, history: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the number of threads at the end, the reason for it, its history, and the dtype of the parameters."""
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()})
    default = str(torch.get_default_dtype()).removeprefix("torch.")
    return {
        "threads": threads.number,
        "threads_reason": threads.reason,
        "threads_by_step": [list(each) for each in history],
        "dtype": ", ".join(dtypes) or default,
    }


def git_state() -> dict[str, Any] | None:
    """Return the commit of the working folder, and whether files differ from it; ``None`` outside a repository."""
    return _git_state(Path.cwd())


@cache  # the code of a process does not change either
def _git_state(folder: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
