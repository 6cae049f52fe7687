"""Devices and ranks of a process, and its number of CPU threads."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch import nn

from seqlab.contracts import UserError
from seqlab.recurrence.recording import is_recurrent

RANK = "SEQLAB_RANK"
"""Environment variable of a process that rank 0 started: its local rank."""


@final
@dataclass(frozen=True)
class RankInfo:
    """Rank of a process among the processes of a run.

    Attributes:
        devices: processes on each node; 1 for a run that is not distributed.
        nodes: number of nodes.
        node_rank: number of this process's node.
        local_rank: number of this process on its node.
        by_srun: whether ``srun`` started all processes; otherwise rank 0 starts the others.
        port: where rank 0 listens.
    """

    devices: int = 1
    nodes: int = 1
    node_rank: int = 0
    local_rank: int = 0
    by_srun: bool = False
    port: int = field(default=0, compare=False)

    @property
    def world_size(self) -> int:
        """Number of processes of the run."""
        return self.devices * self.nodes

    @property
    def rank(self) -> int:
        """Number of this process among all."""
        return self.node_rank * self.devices + self.local_rank


def rank_info(trainer: Mapping[str, Any]) -> RankInfo:
    """Return the rank of this process.

    Raises:
        UserError: SLURM started another number of processes than the config asks for.
    """
    devices, nodes = _device_count(trainer), trainer["num_nodes"]
    tasks = srun_tasks()
    if tasks > 1 and tasks != devices * nodes:
        raise UserError(
            f"srun started {tasks} tasks, but trainer.devices={devices} on trainer.num_nodes={nodes} are "
            f"{devices * nodes} processes; the two must agree"
        )
    if tasks > 1:
        return RankInfo(devices, nodes, int(os.environ["SLURM_NODEID"]), int(os.environ["SLURM_LOCALID"]), by_srun=True)
    if nodes > 1:
        raise UserError(
            f"trainer.num_nodes={nodes} needs SLURM: set hydra/launcher=slurm "
            f"hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={devices}"
        )
    return RankInfo() if devices == 1 else RankInfo(devices, port=_free_port())


def srun_tasks() -> int:
    """Return the number of tasks of this process's job step; 1 outside of ``srun``."""
    if RANK in os.environ or "SLURM_LOCALID" not in os.environ:
        return 1
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))  # a batch script has SLURM_NTASKS too, but is one process


def is_srun_worker() -> bool:
    """Whether ``srun`` started this process as a rank other than 0."""
    return srun_tasks() > 1 and os.environ["SLURM_PROCID"] != "0"


def _device_count(trainer: Mapping[str, Any]) -> int:
    devices, available, on_gpus = trainer["devices"], torch.cuda.device_count(), uses_gpu(trainer)
    if devices == "auto":
        return max(1, available) if on_gpus else 1
    if on_gpus and int(devices) > available > 0:
        raise UserError(f"trainer.devices must be at most the number of GPUs, {available}, got {devices}")
    return int(devices)


def uses_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether the config asks for GPUs, or takes them where there are any."""
    accelerator = trainer["accelerator"]
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.device_count() > 0)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@final
class LocalProcesses(LightningEnvironment):
    """Lightning's view of processes that rank 0 started on its own machine."""

    def __init__(self, info: RankInfo) -> None:
        super().__init__()
        self.info = info

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning would start the command line again."""
        return True

    @property
    def main_address(self) -> str:
        """Address of rank 0, whatever the environment says."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Port of rank 0."""
        return self.info.port

    def local_rank(self) -> int:
        """Return the number of this process on its node."""
        return self.info.local_rank

    def node_rank(self) -> int:
        """Return 0, whatever the environment says."""
        return self.info.node_rank


def cluster_environment(info: RankInfo) -> ClusterEnvironment:
    """Return Lightning's description of the run's processes; requeueing a job is left to seqlab."""
    return SLURMEnvironment(auto_requeue=False) if info.by_srun else LocalProcesses(info)


@final
class SeedPerRank(pl.Callback):
    """Seed each rank differently when training starts, for dropout; the initial weights are the same on all."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed this rank; the generator states of a checkpoint are loaded later and replace this."""
        if trainer.world_size > 1:
            pl.seed_everything((self.seed + 1_000_003 * trainer.global_rank) % 2**32, verbose=False)


LARGE = 100_000_000
"""Multiplications of one product from which on several threads are used: about 5 ms on one core."""


class Threads(NamedTuple):
    """Number of CPU threads of a process, and the reason for it."""

    number: int
    reason: str


def configured_threads(trainer: Mapping[str, Any], info: RankInfo) -> Threads | None:
    """Return the number of threads that the config or SLURM sets; ``None`` where it depends on the model."""
    if trainer.get("threads") not in (None, "auto"):
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
