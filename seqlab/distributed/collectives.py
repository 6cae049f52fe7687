"""Collective operations across ranks, no-ops on a single process, and resharding of per-rank counts."""

import os
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from seqlab.contracts import UserError


@final
class RankConsensus:
    """Maximum over ranks of a number that each rank gives at the same steps; on one process, the number itself."""

    def __init__(self) -> None:
        self._group: Any = None
        self._pending: Any = None
        self._value = torch.zeros((), dtype=torch.int64)

    def delayed_max(self, number: int) -> int:
        """Return the maximum of the previous call, which was reduced meanwhile, so that no step waits for it."""
        if not is_distributed():
            return number
        previous = self._wait()
        self._value.fill_(number)
        self._pending = dist.all_reduce(self._value, dist.ReduceOp.MAX, group=self._gloo(), async_op=True)
        return previous

    def all_reduce_max(self, number: int) -> int:
        """Return the maximum of this call and of a pending one; wait for all ranks."""
        if not is_distributed():
            return number
        greatest = torch.tensor(max(number, self._wait()))
        dist.all_reduce(greatest, dist.ReduceOp.MAX, group=self._gloo())
        return int(greatest)

    def _wait(self) -> int:
        if self._pending is None:
            return 0
        self._pending.wait()
        self._pending = None
        return int(self._value)

    def _gloo(self) -> Any:
        if self._group is None:  # on the CPU: reading a number back from a GPU would stop it
            self._group = dist.new_group(backend="gloo")
        return self._group


def is_distributed() -> bool:
    """Whether this process is currently one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_gather(value: Any) -> list[Any]:
    """Return a plain value of each rank; all ranks must call."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks; all ranks must call."""
    if not is_distributed():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def destroy_process_group() -> None:
    """Leave the process group, so that the next run of this process can start its own."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)


def reshard_counts(saved: list[dict[str, Any]], rank: int, world_size: int, *, within: bool) -> dict[str, Any]:
    """Return a rank's counts of a checkpoint; with another number of ranks, rank 0 gets the sums, all the mean loss.

    Raises:
        UserError: the number of ranks changes within an epoch while a state is carried, which cannot be resharded.
    """
    if len(saved) == world_size:
        return saved[rank]
    if within and any(one["state"] for one in saved):
        raise UserError(
            f"the checkpoint was written within an epoch by {len(saved)} processes, each with its part of the "
            f"text; it cannot be resumed by {world_size}: set trainer.devices={len(saved)}, or ckpt_path=best"
        )
    sums = [one["loss_sum"] for one in saved]
    return {
        "state": [],
        "loss_sum": None if sums[0] is None else sum(sums) / len(sums),
        "batches": saved[0]["batches"],
        "examples": 0 if rank else sum(one["examples"] for one in saved),
        "steps": 0 if rank else sum(one["steps"] for one in saved),
    }
