"""What all generated tasks share: splits and batches from seeds, and scores that are known beforehand."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from seqlab import Examples, GeneratedTask, Ragged, Report

SPLITS = ("train", "valid", "test")
MOST_STEPS = 2**27
"""Of a split."""


@final
@dataclass(frozen=True)
class Bounds:
    """What the monitored metric is worth.

    Attributes:
        chance: expected score of the best predictor that ignores its input.
        optimal: expected score that no predictor beats (Bayes); ``None`` where it is not known.
        reason: why ``optimal`` is that, or why it is not known.
        solved: score from which on the task counts as solved.
    """

    chance: float
    optimal: float | None
    reason: str
    solved: float


class Generated(GeneratedTask, ABC, presets={"data": "generated"}):
    """Sequences that are drawn, with targets that can be computed from them.

    ``valid`` and ``test`` are fixed by ``split_seed``; so is ``train``, which is not trained on if ``fresh``. Where
    there are few different sequences (short ones), some are in several splits: what is measured is memory, not whether
    it carries over to sequences never seen.

    Args:
        sequence_length: the distance; what it spans is the task's to say.
        examples: training sequences of an epoch.
        held_out: sequences to validate on, and as many to test on.
        split_seed: another one draws other splits; ``seed`` does not.
        fresh: train on new sequences at every step, by ``seed``; else on the same ones in every epoch.
        eval_lengths: further distances at which the trained model is tested.

    Raises:
        ValueError: an option is out of its range.
    """

    shortest: ClassVar[int] = 1
    """The least distance there can be."""

    sequence_length: int

    def __init__(
        self,
        sequence_length: int,
        examples: int = 10_000,
        held_out: int = 2_000,
        split_seed: int = 0,
        fresh: bool = True,
        eval_lengths: Sequence[int] = (),
    ) -> None:
        at_least("sequence_length", sequence_length, self.shortest, MOST_STEPS)
        at_least("examples", examples, 1, MOST_STEPS)
        at_least("held_out", held_out, 1, MOST_STEPS)
        at_least("split_seed", split_seed, 0, 2**63)
        check_steps("examples", examples, sequence_length)
        check_steps("held_out", held_out, max([sequence_length, *eval_lengths]))
        for length in eval_lengths:
            if length < self.shortest:
                raise ValueError(f"eval_lengths has {length}; each must be at least {self.shortest}")
        if len(set(eval_lengths)) < len(eval_lengths):
            raise ValueError(f"eval_lengths is {list(eval_lengths)}; each may occur once")
        self.sequence_length, self.examples, self.held_out = sequence_length, examples, held_out
        self.split_seed, self.fresh, self.eval_lengths = split_seed, fresh, tuple(eval_lengths)

    # What a task says of itself -----------------------------------------------------------------------------------

    @abstractmethod
    def made(self, count: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw sequences with their targets.

        Args:
            count: how many.
            length: the distance.
            generator: the only source of randomness.

        Returns:
            Token ids ``[count, steps]`` or features ``[count, steps, features]``, and targets.
        """

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """What the monitored metric is worth at ``sequence_length``."""

    # What the framework asks --------------------------------------------------------------------------------------

    def splits(self) -> Mapping[str, Examples]:
        """Draw the splits, and one more for each of ``eval_lengths``, called ``length <distance>``."""
        sizes = (self.examples, self.held_out, self.held_out)
        made = {
            name: self._make(size, self.sequence_length, self.split_seed, place)
            for place, (name, size) in enumerate(zip(SPLITS, sizes, strict=True))
        }
        place = SPLITS.index("test")
        for length in self.eval_lengths:
            made[f"length {length}"] = self._make(self.held_out, length, self.split_seed, place, length)
        return made

    def draw(self, count: int, seed: int) -> Examples:
        """Draw new training examples."""
        return self._make(count, self.sequence_length, seed)

    def _make(self, count: int, length: int, *seeds: int) -> Examples:
        mixed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint32)[0])
        inputs, targets = self.made(count, length, Generator().manual_seed(mixed))
        steps = torch.full((count,), inputs.shape[1])
        return Examples(Ragged(inputs.flatten(0, 1), steps), targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Say whether the monitored metric reaches ``bounds.solved``."""
        score = metrics[self.monitor]
        return score >= self.bounds.solved if self.mode == "max" else score <= self.bounds.solved

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Make a table of the bounds."""
        row = {"metric": self.monitor, "sequence_length": self.sequence_length, **asdict(self.bounds)}
        return Report({"bounds": [row]})

    def state_dict(self) -> dict[str, Any]:
        """Give nothing: the options say all."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back nothing.

        Raises:
            ValueError: there is something.
        """
        if state:
            raise ValueError(f"a generated task has no state, and here is one with {', '.join(map(str, state))}")


class Determined(Generated, ABC):
    """Sequences whose targets are a function of them, of few positions or of all."""

    def made(self, count: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw sequences and compute their targets."""
        inputs = self.sequences(count, length, generator)
        return inputs, self.answer(inputs)

    @abstractmethod
    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw sequences: token ids ``[count, steps]``, or features ``[count, steps, features]``.

        Args:
            count: how many.
            length: the distance.
            generator: the only source of randomness.
        """

    @abstractmethod
    def answer(self, inputs: Tensor) -> Tensor:
        """Compute the targets of such sequences; the first axis is the sequence."""

    @abstractmethod
    def necessary(self, inputs: Tensor) -> Bool[Tensor, "count steps"]:
        """Say on which positions of each sequence its targets depend: the others could be anything."""

    @abstractmethod
    def changed(self, inputs: Tensor, where: Bool[Tensor, "count steps"], generator: Generator) -> Tensor:
        """Give the sequences another value at each of these positions; what marks a place stays as it is."""


def at_least(name: str, value: int, least: int, most: int = 2**16) -> None:
    """Check an option.

    Raises:
        ValueError: it is less, or more than any table of a task has rows.
    """
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")
    if value > most:
        raise ValueError(f"{name} is {value}; it may be {most} at most")


def check_steps(name: str, count: int, length: int) -> None:
    """Check that what an option asks to draw fits into memory: a step takes 8 bytes or more.

    Raises:
        ValueError: it does not.
    """
    if count * length > MOST_STEPS:
        raise ValueError(f"{name} is {count:,}, of {length:,} steps each; in all there may be {MOST_STEPS:,}")


def integers(low: int, high: int, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw whole numbers from ``low`` to ``high``, both included."""
    return torch.randint(low, high + 1, shape, generator=generator)


def another(values: Tensor, low: int, high: int, generator: Generator) -> Tensor:
    """Draw for each of some numbers from ``low`` to ``high`` another one in that range."""
    count = high - low + 1
    return (values - low + integers(1, count - 1, tuple(values.shape), generator)) % count + low
