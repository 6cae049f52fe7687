"""Checks of how examples are dealt to the splits."""

import math

import torch
from torch import Tensor

from seqlab.contracts import Ragged
from seqlab.testing.guesses import is_class
from seqlab.testing.suite import demand
from seqlab.testing.tasks.making import SPLITS, TaskMaking

_FEWEST = 20
_ROWS = 1500
_SHORTEST = 6
_CHANCE = math.log(1e9)
_SHARE = 0.3


class DealingChecks(TaskMaking):
    """Valid and test are like train, and apart from it."""

    def test_splits_are_dealt_by_chance(self) -> None:
        """Neither valid nor test is of one class alone, or of none of the classes of train, as in sorted data."""
        splits = self.ready().splits
        targets = {name: splits[name].targets for name in SPLITS}
        if self.ready().task.per_step or not is_class(targets["train"]) or targets["train"].dim() != 1:
            return
        found = {name: {*part.tolist()} for name, part in targets.items()}
        if len(set().union(*found.values())) < 2:
            return
        for name in ("valid", "test"):
            if len(targets[name]) < _FEWEST:
                continue
            demand(
                len(found[name]) > 1,
                f"all {len(targets[name])} examples of {name} are of class {min(found[name])}: are the data sorted by"
                " class? Shuffle them by split_seed before they are cut",
            )
            demand(
                found[name] & found["train"],
                f"no class of {name} is in train: are the data sorted by class? Shuffle them by split_seed before they"
                " are cut",
            )

    def test_splits_share_no_steps(self) -> None:
        """No windows of valid or test overlap those of train, as where windows are shuffled before they are cut."""
        ready = self.ready()
        parts = {name: ready.splits[name].inputs for name in SPLITS}
        train = parts["train"]
        if not isinstance(train, Ragged) or train.even is None or len(train) < _FEWEST:
            return
        steps = int(train.lengths[0])
        run = steps // 2
        if steps < _SHORTEST:
            return
        rows = {name: _rows(part, steps) for name, part in parts.items() if isinstance(part, Ragged)}
        numbered = _numbered(torch.cat(list(rows.values())), list(map(len, rows.values())))
        numbers = dict(zip(rows, numbered, strict=True))
        kinds = len(torch.unique(numbers["train"]))
        places = range(steps - run, -1, -1)
        train_rows = numbers["train"]
        known = {key: place for place in places for key in _keys(train_rows[:, place : place + run])}
        if kinds < len(numbers["train"]) / 2 and run * math.log(max(kinds, 2)) < _CHANCE:
            return  # sequences of a few kinds of steps can be alike by chance
        if len(known) < len(numbers["train"]) / 2:
            return  # the same patterns everywhere
        for name in ("valid", "test"):
            found = numbers.get(name)
            if found is None or len(found) < _FEWEST:
                continue
            first, last = _keys(found[:, :run]), _keys(found[:, -run:])
            ends = zip(first, last, _varied(found[:, :run]), _varied(found[:, -run:]), strict=True)
            shared = sum(
                (v and known.get(one, 0) > 0) or (w and known.get(other, steps - run) < steps - run)
                for one, other, v, w in ends
            )
            demand(
                shared <= _SHARE * len(found),
                f"{shared} of {len(found)} sequences of {name} begin or end with {run} steps that stand elsewhere in a"
                " sequence of train: windows that overlap must not be shuffled before they are cut into splits",
            )


def _rows(part: Ragged, steps: int) -> Tensor:
    """Give up to some thousand sequences of that length, ``[rows, steps, features]``."""
    if part.even is None or part.even.shape[1] != steps:
        return part.values.new_zeros(0, steps, math.prod(part.values.shape[1:]))
    return part.even[:_ROWS].reshape(-1, steps, math.prod(part.values.shape[1:]))


def _numbered(rows: Tensor, counts: list[int]) -> list[Tensor]:
    """Give equal steps the same number, ``[rows, steps]``."""
    _, numbers = torch.unique(rows.flatten(0, 1), dim=0, return_inverse=True)
    return list(numbers.view(rows.shape[:2]).split(counts))


def _keys(numbers: Tensor) -> list[bytes]:
    return [row.tobytes() for row in numbers.contiguous().numpy()]


def _varied(numbers: Tensor) -> list[bool]:
    """Say of which rows at least half of the steps differ from the step before."""
    changes = (numbers[:, 1:] != numbers[:, :-1]).sum(1)
    return (2 * changes >= numbers.shape[1] - 1).tolist()
