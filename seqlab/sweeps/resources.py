"""Resources of a sweep's runs: one GPU for each process, and SLURM jobs."""

import getpass
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger("seqlab")

VARIABLE = "CUDA_VISIBLE_DEVICES"
_LOCKS: list[FileLock] = []
"""Locks of this process, which the system releases when it ends."""


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    given = os.environ.get(VARIABLE)
    if given is None:
        import torch

        return [str(index) for index in range(torch.cuda.device_count())]
    names = [name.strip() for name in given.split(",")]
    return [] if names[0] in ("", "-1") else names


def take_gpu(gpus: Sequence[str], folder: Path | None = None) -> str:
    """Choose the GPU that the fewest processes of this user use, and reserve it until this process ends."""
    folder = folder or Path(tempfile.gettempdir()) / f"seqlab-gpus-{getpass.getuser()}"
    folder.mkdir(parents=True, exist_ok=True)
    for others in count():
        for gpu in gpus:
            lock = FileLock(folder / f"{re.sub('[^A-Za-z0-9-]', '_', gpu)}.{others}.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            _LOCKS.append(lock)
            return gpu
    raise AssertionError


def use_gpus(gpus: Sequence[str], devices: object) -> None:
    """Make one GPU visible to this process, or all if a run uses several devices; no GPUs change nothing.

    Call it before CUDA is used. A process that trains many runs keeps the GPU of its first.
    """
    if not gpus:
        return
    if devices not in (1, "1", "auto"):
        os.environ[VARIABLE] = ",".join(gpus)
    elif not _LOCKS:
        os.environ[VARIABLE] = take_gpu(gpus)


def active_jobs() -> set[str]:
    """List this user's queued and running SLURM jobs, such as ``17`` and ``18_3``; none without SLURM."""
    if shutil.which("squeue") is None:
        return set()
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("squeue does not answer (%s); the queued jobs are unknown", type(error).__name__)
        return set()
    return set(done.stdout.split())


def requeue(job: str) -> bool:
    """Requeue a SLURM job, such as this one; return whether SLURM did."""
    if shutil.which("scontrol") is None:
        return False
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        log.warning("scontrol requeue %s: %s", job, done.stderr.strip() or done.returncode)
    return done.returncode == 0
