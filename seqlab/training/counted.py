"""What each process of a run had counted, shared out among those that go on."""

from typing import Any

from seqlab.contracts import UserError


def shared_out(saved: list[dict[str, Any]], rank: int, world: int, *, within: bool) -> dict[str, Any]:
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
