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

VARIABLE = "CUDA_VISIBLE_DEVICES"
_HELD: list[FileLock] = []
"""Locks of this process; the system takes them back when it ends, however it ends."""


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    given = os.environ.get(VARIABLE)
    if given is None:
        import torch

        return [str(index) for index in range(torch.cuda.device_count())]
    names = [name.strip() for name in given.split(",")]
    return [] if names[0] in ("", "-1") else names


def take_gpu(gpus: Sequence[str], folder: Path | None = None) -> str:
    """Choose the GPU that the fewest processes hold, and hold it until this process ends.

    Args:
        gpus: to choose from, at least one.
        folder: of the locks; by default one for all sweeps of this user on this machine.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"seqlab-gpus-{getpass.getuser()}"
    folder.mkdir(parents=True, exist_ok=True)
    for others in count():
        for gpu in gpus:
            lock = FileLock(folder / f"{re.sub('[^A-Za-z0-9-]', '_', gpu)}.{others}.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            _HELD.append(lock)
            return gpu
    raise AssertionError


def use_gpus(gpus: Sequence[str], devices: object) -> None:
    """Let this process see one GPU, or all of them where a run wants several devices; none changes nothing.

    Must come before CUDA is first used. A process that does many runs keeps the GPU of its first.
    """
    if not gpus:
        return
    if devices not in (1, "1", "auto"):
        os.environ[VARIABLE] = ",".join(gpus)
    elif not _HELD:
        os.environ[VARIABLE] = take_gpu(gpus)


log = logging.getLogger("seqlab")


def active() -> set[str]:
    """List one's own jobs that wait or run, such as ``17`` and ``18_3``; none where there is no SLURM."""
    if shutil.which("squeue") is None:
        return set()
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("squeue does not answer (%s); jobs that wait are not known", type(error).__name__)
        return set()
    return set(found.stdout.split())


def requeue(job: str) -> bool:
    """Put a job, such as this one, back into the queue; say whether SLURM did."""
    if shutil.which("scontrol") is None:
        return False
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        log.warning("scontrol requeue %s: %s", job, done.stderr.strip() or done.returncode)
    return done.returncode == 0
