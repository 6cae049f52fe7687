"""Number of CPU threads of a run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from seqlab.distributed.devices import RankInfo
from seqlab.recurrence.recording import is_recurrent

LARGE = 100_000_000
"""Multiplications of one product from which on several threads are used: about 5 ms on one core."""


class Threads(NamedTuple):
    """Number of CPU threads of a process, and the reason for it."""

    number: int
    reason: str


def configured_threads(trainer: Mapping[str, Any], info: RankInfo) -> Threads | None:
    """Return the number of threads that the config or SLURM sets; ``None`` where it depends on the model."""
    if trainer.get("threads") is not None:
        return Threads(trainer["threads"], "trainer.threads")
    if info.by_srun and (given := os.environ.get("SLURM_CPUS_PER_TASK")) is not None:
        return Threads(int(given), "SLURM_CPUS_PER_TASK")
    return None


def default_threads(model: nn.Module, rows: int, steps: float, info: RankInfo, *, on_gpu: bool = False) -> Threads:
    """Choose one thread for a small model, and this process's share of the cores for a large one.

    Threads wait for one another after each product. Where another process keeps a core busy, each wait can take some
    milliseconds, so that a product must take longer than that. The largest product has ``rows * weights``
    multiplications in a recurrent model, which computes one time step at a time, and ``rows * steps * weights`` in any
    other, with ``weights`` the size of the largest matrix that is no embedding.

    Args:
        model: as it is trained.
        rows: examples of a training batch in this process.
        steps: mean time steps of an example.
        info: this process's rank; the cores are divided among the processes of a node.
        on_gpu: whether the model is on a GPU, so that its size says nothing of the work on the CPU.
    """
    share = max(1, min(torch.get_num_threads(), available_cores()) // info.devices)
    if on_gpu:
        return Threads(share, "the model is on a GPU")
    recurrent = is_recurrent(model) or any(isinstance(part, nn.RNNBase) for part in model.modules())
    work = round(rows * (1 if recurrent else max(1.0, steps)) * _largest_matrix(model))
    if work < LARGE:
        return Threads(1, f"small model: {work:,} multiplications at a time, fewer than {LARGE:,}")
    return Threads(share, f"large model: {work:,} multiplications at a time, at least {LARGE:,}")


def _largest_matrix(model: nn.Module) -> int:
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)}
    return max((each.numel() for each in model.parameters() if each.dim() > 1 and id(each) not in tables), default=0)


def available_cores() -> int:
    """Return the number of cores that this process may use: its affinity, limited by its control group's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("utf-8").split()
        return affinity if quota == "max" else max(1, min(affinity, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return affinity
