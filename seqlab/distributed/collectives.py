"""Collective operations across ranks, no-ops on a single process, and resharding of counted data."""

import os
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from seqlab.contracts import UserError


@final
class RankConsensus:
    """What any process asks for, known to all of them one call later; one process agrees with itself at once.

    Every process calls it at the same steps. The answer is the greatest number that was asked for at the call before,
    which has travelled meanwhile, so that no step waits for it.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._on_the_way: Any = None
        self._asked = torch.zeros((), dtype=torch.int64)

    def ask(self, number: int) -> int:
        """Ask for something, and hear what was asked for at the call before."""
        if not is_distributed():
            return number
        heard = self._hear()
        self._asked.fill_(number)
        self._on_the_way = dist.all_reduce(self._asked, dist.ReduceOp.MAX, group=self._talk(), async_op=True)
        return heard

    def settle(self, number: int) -> int:
        """Ask for something, and wait until all have."""
        if not is_distributed():
            return number
        greatest = torch.tensor(max(number, self._hear()))
        dist.all_reduce(greatest, dist.ReduceOp.MAX, group=self._talk())
        return int(greatest)

    def _hear(self) -> int:
        if self._on_the_way is None:
            return 0
        self._on_the_way.wait()
        self._on_the_way = None
        return int(self._asked)

    def _talk(self) -> Any:
        if self._group is None:  # by gloo, on the CPU: reading a number back from a GPU would stop it
            self._group = dist.new_group(backend="gloo")
        return self._group


def is_distributed() -> bool:
    """Whether this process is one of several at this moment."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_gather(value: Any) -> list[Any]:
    """Collect a plain value of each process, by rank; all have to call."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce_sum(value: Tensor) -> Tensor:
    """Add a tensor up over all processes; all have to call."""
    if not is_distributed():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def destroy_process_group() -> None:
    """Part from the other processes, so that the next run of this one begins by itself."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)


def reshard_counts(saved: list[dict[str, Any]], rank: int, world: int, *, within: bool) -> dict[str, Any]:
    """Give a process what it had counted; if other processes go on, all loss, and to the first one all counts.

    Args:
        saved: what each process kept in the checkpoint, by rank.
        rank: the process.
        world: how many go on.
        within: whether the checkpoint was written within an epoch.

    Raises:
        UserError: within an epoch, other processes go on than have stopped, and the states that they carried cannot be
            shared out among them.
    """
    if len(saved) == world:
        return saved[rank]
    if within and any(one["state"] for one in saved):
        raise UserError(
            f"the checkpoint was written within an epoch by {len(saved)} processes, each with its part of the "
            f"text; {world} cannot go on from there: set trainer.devices={len(saved)}, or ckpt_path=best"
        )
    sums = [one["loss_sum"] for one in saved]
    return {
        "state": [],
        "loss_sum": None if sums[0] is None else sum(sums) / len(sums),
        "batches": saved[0]["batches"],
        "examples": 0 if rank else sum(one["examples"] for one in saved),
        "steps": 0 if rank else sum(one["steps"] for one in saved),
    }
