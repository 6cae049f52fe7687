"""Where a process stands among those of its run: one for each device, on one node or several."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from seqlab.contracts import UserError

RANK = "SEQLAB_RANK"
"""Set in a process that rank 0 started: which rank of its node it is."""


@final
@dataclass(frozen=True)
class Place:
    """A process of a run.

    Attributes:
        devices: processes of this run on each node; 1 for a run that is not distributed.
        nodes: that the run is spread over.
        node: this one's number.
        local_rank: this process' number on its node.
        by_srun: whether ``srun`` started all processes; else rank 0 starts the others.
        address, port: where rank 0 waits for the others.
    """

    devices: int = 1
    nodes: int = 1
    node: int = 0
    local_rank: int = 0
    by_srun: bool = False
    address: str = "127.0.0.1"
    port: int = field(default=0, compare=False)

    @property
    def world(self) -> int:
        """Processes of the run."""
        return self.devices * self.nodes

    @property
    def rank(self) -> int:
        """This process' number among them."""
        return self.node * self.devices + self.local_rank


def place(trainer: Mapping[str, Any]) -> Place:
    """Find out where this process stands.

    Args:
        trainer: the node of the config, for ``devices``, ``num_nodes`` and ``accelerator``.

    Raises:
        UserError: what SLURM started is not what the config asks for.
    """
    devices, nodes = _count(trainer), trainer["num_nodes"]
    tasks = started_by_srun()
    if tasks > 1 and tasks != devices * nodes:
        raise UserError(
            f"srun started {tasks} tasks, but trainer.devices={devices} on trainer.num_nodes={nodes} are "
            f"{devices * nodes} processes; the two must agree"
        )
    if tasks > 1:
        node, local = int(os.environ["SLURM_NODEID"]), int(os.environ["SLURM_LOCALID"])
        return Place(devices, nodes, node, local, by_srun=True)
    if nodes > 1:
        raise UserError(
            f"trainer.num_nodes={nodes}: only SLURM spreads a run over nodes; hydra/launcher=slurm "
            f"hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={devices}"
        )
    if devices == 1:
        return Place()
    return Place(devices, port=free_port())


def started_by_srun() -> int:
    """Count the tasks of the job step that this process is one of; 1 outside of ``srun``."""
    if RANK in os.environ or "SLURM_LOCALID" not in os.environ:
        return 1
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))  # a batch script has SLURM_NTASKS too, but is alone


def is_follower() -> bool:
    """Whether ``srun`` started this process to follow another one, which is rank 0."""
    return started_by_srun() > 1 and os.environ["SLURM_PROCID"] != "0"


def _count(trainer: Mapping[str, Any]) -> int:
    asked, there, on_gpus = trainer["devices"], torch.cuda.device_count(), uses_gpu(trainer)
    if asked == "auto":
        return max(1, there) if on_gpus else 1
    if on_gpus and int(asked) > there > 0:
        raise UserError(f"trainer.devices={asked}, but there are {there} GPUs here")
    return int(asked)


def uses_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether the config asks for GPUs, or takes them where there are any."""
    accelerator = trainer["accelerator"]
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.device_count() > 0)


def free_port() -> int:
    """Ask the system for a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@final
class OwnProcesses(ClusterEnvironment):
    """What Lightning asks of a cluster, for processes that rank 0 of this run started on its own machine."""

    def __init__(self, where: Place) -> None:
        super().__init__()
        self.where = where

    @property
    def creates_processes_externally(self) -> bool:
        """Say that Lightning need not start any: it would start the command line again."""
        return True

    @property
    def main_address(self) -> str:
        """Say where rank 0 is."""
        return self.where.address

    @property
    def main_port(self) -> int:
        """Say where it listens."""
        return self.where.port

    @staticmethod
    def detect() -> bool:
        """Say that this environment is chosen, not found."""
        return False

    def world_size(self) -> int:
        """Count the processes."""
        return self.where.world

    def set_world_size(self, size: int) -> None:
        """Leave it as it is."""

    def global_rank(self) -> int:
        """Number this process among all."""
        return self.where.rank

    def set_global_rank(self, rank: int) -> None:
        """Leave it as it is."""

    def local_rank(self) -> int:
        """Number this process on its node."""
        return self.where.local_rank

    def node_rank(self) -> int:
        """Number this node."""
        return self.where.node


def environment(where: Place) -> ClusterEnvironment:
    """Tell Lightning of this process' place; what requeues a job is seqlab's."""
    return SLURMEnvironment(auto_requeue=False) if where.by_srun else OwnProcesses(where)


@final
class OwnDraws(pl.Callback):
    """Lets each process of several draw its own random numbers, for dropout; all began with the same weights.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose this process' numbers; a checkpoint, which is read into the generators later, has others."""
        if trainer.world_size > 1:
            pl.seed_everything((self.seed + 1_000_003 * trainer.global_rank) % 2**32, verbose=False)
