"""Lengths of generated examples: schedule of training lengths, batches of one length, size of held-out splits."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack, final

import numpy as np
import torch
from torch import Tensor

from seqlab.contracts import GeneratedTask, Ragged
from seqlab.data.loaders import ExampleLoader, LoaderOptions
from seqlab.errors import check_range

HELD_OUT_STEPS = 2**21
"""Time steps of a held-out split of another length; longer sequences are fewer, but at least :data:`FEWEST`."""
FEWEST = 100
BATCH_STEPS = 2**18
"""Maximum number of time steps of a held-out batch of another length, unless one sequence has more."""

Draw = Callable[..., tuple[Ragged, Tensor]]


@final
@dataclass(frozen=True)
class Check:
    """A validation: the length at which it was taken, and whether it solves the task."""

    length: int
    passed: bool


@final
class LengthSchedule:
    r"""Lengths of the training sequences of a generated task.

    Under ``curriculum`` the ceiling :math:`c` starts at ``task.start_length`` and becomes
    :math:`\min(\lceil g c \rceil, T)` after ``task.patience`` consecutive validations at :math:`c` that solve the
    task, with :math:`g` = ``task.growth`` and :math:`T` = ``task.sequence_length``. A batch draws one length from
    :math:`[\max(c/2, m), c]`, :math:`m` = ``task.min_length``. Otherwise the ceiling is :math:`T`.

    Attributes:
        ceiling: the largest length that is drawn now.
        passes: consecutive validations at it that solved the task.
        shortest, longest: lengths drawn so far; ``None`` before the first.
        last: the last validation.
        reached: ``length``, ``steps``, ``examples`` and ``seconds`` when the largest length solved was first solved.

    Args:
        task: a generated task with a ``sequence_length``.
        batch_size: sequences of a batch.
        tokens_per_batch: maximum number of time steps of a batch, but at least one sequence; ``None`` is no maximum.

    Raises:
        ValueError: the task's class cannot vary its lengths; the message says what to add.
    """

    def __init__(self, task: GeneratedTask, batch_size: int, tokens_per_batch: int | None) -> None:
        assert task.sequence_length is not None
        self.task, self.protocol, self.target = task, task.lengths, task.sequence_length
        self._batch_size, self.budget = batch_size, tokens_per_batch
        self.ceiling = task.start_length if self.is_curriculum else self.target
        self.passes = 0
        self.shortest: int | None = None
        self.longest: int | None = None
        self.last: Check | None = None
        self.reached: dict[str, Any] | None = None
        self._time_steps: dict[int, int] = {}
        if self.varies or task.eval_multiples:
            _check_task(task)

    @property
    def varies(self) -> bool:
        """Whether training lengths vary."""
        return self.protocol != "fixed"

    @property
    def is_curriculum(self) -> bool:
        """Whether the ceiling grows."""
        return self.protocol == "curriculum"

    def time_steps(self, length: int) -> int:
        """Return the number of time steps of a sequence of this length."""
        if length not in self._time_steps:
            inputs = self.task.draw(1, 0, length).inputs if _takes_length(self.task) else self.task.draw(1, 0).inputs
            self._time_steps[length] = int(inputs.lengths[0]) if isinstance(inputs, Ragged) else length
        return self._time_steps[length]

    @property
    def batch_size(self) -> int:
        """Number of sequences of a training batch at this ceiling."""
        if self.budget is None:
            return self._batch_size
        return max(1, min(self._batch_size, self.budget // self.time_steps(self.ceiling)))

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest length that a training batch may draw."""
        if self.is_curriculum:
            return max(self.task.min_length, self.ceiling // 2), self.ceiling
        return self.task.min_length if self.varies else self.target, self.target

    def count(self, length: int) -> None:
        """Record the length of a training batch."""
        self.shortest = length if self.shortest is None else min(self.shortest, length)
        self.longest = length if self.longest is None else max(self.longest, length)

    def check(self, *, passed: bool) -> None:
        """Record a validation at the ceiling, and let the ceiling of a curriculum grow."""
        self.last = Check(self.ceiling, passed)
        self.passes = self.passes + 1 if passed else 0
        if self.is_curriculum and self.passes >= self.task.patience and self.ceiling < self.target:
            self.ceiling = min(int(np.ceil(self.ceiling * self.task.growth)), self.target)
            self.passes = 0

    @property
    def is_finished(self) -> bool:
        """Whether the last validation solved the task at its ``sequence_length``."""
        return self.last == Check(self.target, passed=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        names = ("ceiling", "passes", "shortest", "longest")
        last = None if self.last is None else [self.last.length, self.last.passed]
        return {**{name: getattr(self, name) for name in names}, "last": last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        last = state["last"]
        self.last = None if last is None else Check(*last)
        for name in state.keys() - {"last"}:
            setattr(self, name, state[name])


def _takes_length(task: GeneratedTask) -> bool:
    return "length" in inspect.signature(task.draw).parameters


def _check_task(task: GeneratedTask) -> None:
    name, wanted = type(task).__name__, f"lengths={task.lengths}"
    if task.lengths == "fixed":
        wanted = "eval_multiples"
    elif not task.fresh:
        raise ValueError(f"{wanted} needs new examples at each step: set {name}.fresh to True")
    if not _takes_length(task):
        raise ValueError(f"{wanted} needs draw(count, seed, length=None): add the argument length to {name}.draw")
    if task.lengths == "curriculum" and type(task).solved is GeneratedTask.solved:
        raise ValueError(f"{wanted} needs a score from which the task is solved: add the method solved to {name}")


def seed_of(*numbers: int) -> int:
    """Mix numbers to a seed of 32 bits."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


@final
class LengthLoader(ExampleLoader):
    """Loader of training batches of one length each, so that there is no padding; all are generated.

    Length and examples of a batch depend on seed, epoch, its index and the schedule's ceiling alone, so that an epoch
    can be resumed anywhere. Every process generates the whole batch, and keeps its shard.

    Args:
        draw: returns examples, given a count, a seed and a length.
        schedule: of the lengths and of the number of rows.
        batches: of an epoch.
    """

    def __init__(self, draw: Draw, schedule: LengthSchedule, *, batches: int, **options: Unpack[LoaderOptions]) -> None:
        check_range("batches", batches, 1)
        super().__init__(batches, 1, **options)
        self.draw, self.schedule = draw, schedule
        self._drawn: tuple[tuple[int, int, int], Ragged, Tensor] | None = None

    def plan(self) -> range:
        """Return the indices of the batches."""
        return range(self.batches)

    def length(self, item: int) -> int:
        """Return the length that a batch of this epoch draws."""
        low, high = self.schedule.range
        return low + seed_of(self.seed, self.epoch, item, 0) % (high - low + 1)

    def batch_rows(self, item: int) -> tuple[Ragged, Tensor, Tensor]:
        """Generate a batch."""
        key = self.epoch, item, self.schedule.ceiling
        if self._drawn is None or self._drawn[0] != key:
            seed = seed_of(self.seed, self.epoch, item, 1)
            self._drawn = key, *self.draw(self.schedule.batch_size, seed, self.length(item))
        _, inputs, targets = self._drawn
        return inputs, targets, torch.arange(len(targets))


def held_out_examples(most: int, steps: int) -> int:
    """Return the number of held-out examples of so many time steps each."""
    return min(most, max(FEWEST, HELD_OUT_STEPS // steps))
