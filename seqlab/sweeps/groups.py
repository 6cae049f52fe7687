"""Runs that differ only in seed, learning rate or initialisation, which can be trained together."""

from collections.abc import Sequence
from typing import TypeVar

from seqlab.sweeps.overrides import override_key

KEYS = (
    "seed", "optimizer.lr", "optimizer.recurrent_lr", "optimizer.weight_decay",
    "cell.initialisation", "cell.forget_bias", "model.init_range",
)  # fmt: skip
"""Keys in which the runs of a group may differ. A run that computes something else by one of them trains by itself."""
_MOST = 64
"""Runs of a group, at most."""

Run = TypeVar("Run", bound=Sequence[str])


def grouped(runs: Sequence[Run], processes: int = 1) -> list[list[Run]]:
    """Divide runs into groups that differ in :data:`KEYS` only, in the order of their first runs.

    Args:
        runs: the overrides of each.
        processes: that train groups side by side; large groups are divided so that each process has one.
    """
    found: dict[tuple[str, ...], list[Run]] = {}
    for overrides in runs:
        found.setdefault(tuple(each for each in overrides if override_key(each) not in KEYS), []).append(overrides)
    size = min(_MOST, max(1, -(-len(runs) // processes)))
    return [group[begin : begin + size] for group in found.values() for begin in range(0, len(group), size)]
