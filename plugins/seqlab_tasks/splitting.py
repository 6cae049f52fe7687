"""Stratified splits that keep what belongs together on one side."""

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import final

import numpy as np
from numpy.typing import NDArray

FRACTIONS = (0.8, 0.1, 0.1)
"""Training, validation and test."""


@final
class SplitError(ValueError):
    """A label cannot be in every split.

    Attributes:
        label: which one.
        groups: how many groups of rows it has.
    """

    def __init__(self, label: int, groups: int, splits: int) -> None:
        super().__init__(
            f"label {label} has {groups} groups of rows, which cannot be dealt out so that every label is in each of"
            f" the {splits} splits"
        )
        self.label, self.groups = label, groups


def grouped_split(
    groups: Sequence[str],
    labels: Sequence[int] | NDArray[np.int64],
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Deal rows out to splits: a group stays together, each label is dealt out in these fractions.

    The order in which groups are dealt is that of a keyed hash of their names: the same on every machine and for every
    order of the rows. Groups with several labels go first, each at random, as long as there is room; those with one
    label then fill each split exactly. A label has at least one row in every split.

    Args:
        groups: what each row belongs to, ``[rows]``.
        labels: of each row, ``[rows]``.
        fractions: share of each split; the first takes what rounding leaves.
        seed: another one deals anew.

    Returns:
        The split of each row, ``[rows]``.

    Raises:
        SplitError: a label has too few groups to be in every split.
    """
    contents = _contents(groups, labels)
    table = _Table(contents, fractions)
    draws = {group: _draw(group, seed) for group in contents}
    order = sorted(contents, key=lambda group: (draws[group][0], group))
    alone: dict[int, list[str]] = defaultdict(list)
    for group in order:
        if len(contents[group]) == 1:
            alone[next(iter(contents[group]))].append(group)
        else:
            table.place(group, table.roomy(group, draws[group][1]))
    for label in sorted(alone):
        for group in alone[label]:
            table.place(group, table.neediest(group))
    table.repair(order)
    return np.array([table.home[group] for group in groups], dtype=np.int64)


def _contents(groups: Sequence[str], labels: Sequence[int] | NDArray[np.int64]) -> dict[str, dict[int, int]]:
    """Count the labels of each group."""
    if len(groups) != len(labels):
        raise ValueError(f"{len(groups)} groups, but {len(labels)} labels")
    contents: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for group, label in zip(groups, np.asarray(labels).tolist(), strict=True):
        contents[group][label] += 1
    return contents


def _draw(group: str, seed: int) -> tuple[float, float]:
    """Draw two numbers from 0 to 1 that depend on the group's name and the seed alone."""
    digest = blake2b(group.encode("utf-8", "surrogatepass"), digest_size=16, key=str(seed).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, int.from_bytes(digest[8:], "big") / 2**64


@final
class _Table:
    """How many rows of each label each split wants, and has."""

    def __init__(self, contents: dict[str, dict[int, int]], fractions: Sequence[float]) -> None:
        self.contents, self.splits = contents, range(len(fractions))
        self.bounds = np.cumsum(fractions) / np.sum(fractions)
        self.home: dict[str, int] = {}
        rows: dict[int, int] = defaultdict(int)
        self.groups: dict[int, int] = defaultdict(int)
        for counts in contents.values():
            for label, count in counts.items():
                rows[label] += count
                self.groups[label] += 1
        self.wanted = {label: _shares(count, fractions) for label, count in rows.items()}
        self.have = {label: [0] * len(fractions) for label in rows}
        self.homes = {label: [0] * len(fractions) for label in rows}  # groups, where `have` counts rows
        for label in sorted(rows):
            if self.groups[label] < len(fractions):
                raise SplitError(label, self.groups[label], len(fractions))

    def place(self, group: str, split: int) -> None:
        for label, count in self.contents[group].items():
            self.have[label][split] += count
            self.homes[label][split] += 1
        self.home[group] = split

    def roomy(self, group: str, chance: float) -> int:
        """Take the split that chance draws, or the one in most need where that one is full for a label."""
        drawn = min(int(np.searchsorted(self.bounds, chance, side="right")), len(self.bounds) - 1)
        counts = self.contents[group].items()
        room = all(self.have[label][drawn] + count <= self.wanted[label][drawn] for label, count in counts)
        return drawn if room else self.neediest(group)

    def neediest(self, group: str) -> int:
        """Find the split that lacks the largest share of what it wants; one without a row of the label comes first."""

        def need(split: int) -> tuple[int, float]:
            labels = self.contents[group]
            empty = sum(not self.have[label][split] for label in labels)
            return empty, sum(1 - self.have[label][split] / self.wanted[label][split] for label in labels)

        return max(self.splits, key=need)

    def repair(self, order: Sequence[str]) -> None:
        """Move a group to each split that lacks a label, where that takes no other label's last group away."""
        for label in sorted(self.have):
            for split in self.splits:
                if self.homes[label][split]:
                    continue
                movable = (group for group in order if label in self.contents[group] and self._spare(group))
                group = next(movable, None)
                if group is None:
                    raise SplitError(label, self.groups[label], len(self.splits))
                self._take(group)
                self.place(group, split)

    def _spare(self, group: str) -> bool:
        return all(self.homes[label][self.home[group]] > 1 for label in self.contents[group])

    def _take(self, group: str) -> None:
        split = self.home.pop(group)
        for label, count in self.contents[group].items():
            self.have[label][split] -= count
            self.homes[label][split] -= 1


def _shares(rows: int, fractions: Sequence[float]) -> list[int]:
    """Cut a number of rows by the fractions, at least one each; the first takes what rounding leaves."""
    total = sum(fractions)
    rest = [max(1, int(rows * fraction / total + 0.5)) for fraction in fractions[1:]]
    return [max(1, rows - sum(rest)), *rest]
