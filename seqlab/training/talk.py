"""What the processes of a run say to one another; a run of one process talks to itself, which costs nothing."""

import os
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor


@final
class Agreement:
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
        if not together():
            return number
        heard = self._hear()
        self._asked.fill_(number)
        self._on_the_way = dist.all_reduce(self._asked, dist.ReduceOp.MAX, group=self._talk(), async_op=True)
        return heard

    def settle(self, number: int) -> int:
        """Ask for something, and wait until all have."""
        if not together():
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


def together() -> bool:
    """Whether this process is one of several at this moment."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(value: Any) -> list[Any]:
    """Collect a plain value of each process, by rank; all have to call."""
    if not together():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def summed(value: Tensor) -> Tensor:
    """Add a tensor up over all processes; all have to call."""
    if not together():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def leave() -> None:
    """Part from the other processes, so that the next run of this one begins by itself."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
