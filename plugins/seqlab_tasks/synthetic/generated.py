"""Base classes of generated tasks: splits and batches from seeds, and scores known in closed form."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Generator, Tensor
from torchmetrics import Metric, MetricCollection

from seqlab import Batch, ClassificationTask, Examples, GeneratedTask, InputSpec, Ragged, Report
from seqlab.contracts.task import LengthProtocol
from seqlab.errors import check_choice, check_range
from seqlab_tasks.classification import likeliest
from seqlab_tasks.metrics import Accuracy, AverageLoss, cross_entropies
from seqlab_tasks.splitting import SPLITS

MAX_STEPS = 2**27
"""Largest number of steps in a split; a step takes 8 bytes or more."""
MAX_SIZE = 2**16
"""Largest option that sets the size of a table."""
SOLVED = 0.99
"""Accuracy from which a task with labels counts as solved: 20 errors in 2,000."""


@final
@dataclass(frozen=True)
class Bounds:
    """Reference scores of the monitored metric.

    Attributes:
        chance: expected score of the best predictor that ignores its input.
        optimal: best expected score of any predictor (Bayes); ``None`` if unknown.
        reason: why ``optimal`` has this value, or why it is unknown.
        solved: score from which the task counts as solved.
    """

    chance: float
    optimal: float | None
    reason: str
    solved: float


class Generated(GeneratedTask, ABC, presets={"data": "generated"}):
    """Sequences sampled with targets that can be computed from them.

    ``split_seed`` fixes ``valid``, ``test`` and ``train``; with ``fresh`` training does not use ``train``. Short
    sequences may occur in several splits, since there are few different ones: these tasks measure memory, not
    generalisation.

    Args:
        sequence_length: the distance, as the task defines it.
        examples: training sequences per epoch.
        held_out: number of validation sequences, and of test sequences.
        split_seed: seed of the splits; independent of ``seed``.
        fresh: train on new sequences at every step, drawn by ``seed``, instead of the same ones in every epoch.
        eval_lengths: further distances at which to test the trained model.
        eval_multiples: further distances, as multiples of the one of the test split.
        lengths: distances of training: all ``sequence_length`` (``fixed``); one per batch from ``[min_length,
            sequence_length]`` (``uniform``); one per batch from ``[ceiling / 2, ceiling]`` (``curriculum``), where the
            ceiling grows to ``sequence_length`` as validation at it solves the task.
        min_length: shortest distance of ``uniform`` and ``curriculum``; null: the task's shortest.
        start_length: first ceiling of ``curriculum``; null: 10, within ``min_length`` and ``sequence_length``.
        growth: factor by which the ceiling grows.
        patience: consecutive validations that must solve the task before the ceiling grows.
        check_every: training batches between two validations of ``curriculum``; they are its epochs.

    Raises:
        ValueError: an option is out of range.
    """

    shortest: int = 1
    """The smallest distance."""

    sequence_length: int

    def __init__(
        self,
        sequence_length: int,
        examples: int = 10_000,
        held_out: int = 2_000,
        split_seed: int = 0,
        fresh: bool = True,
        eval_lengths: Sequence[int] = (),
        eval_multiples: Sequence[int] = (),
        lengths: LengthProtocol = "fixed",
        min_length: int | None = None,
        start_length: int | None = None,
        growth: float = 1.5,
        patience: int = 1,
        check_every: int = 50,
    ) -> None:
        check_range("sequence_length", sequence_length, self.shortest, MAX_STEPS)
        check_range("split_seed", split_seed, 0, 2**63)
        self.sequence_length, self.examples, self.held_out = sequence_length, examples, held_out
        self.split_seed, self.fresh, self.eval_lengths = split_seed, fresh, tuple(eval_lengths)
        self.eval_multiples, self.lengths = tuple(eval_multiples), lengths
        self.growth, self.patience, self.check_every = growth, patience, check_every
        self._set_lengths(min_length, start_length)
        stored = (sequence_length, max([sequence_length, *eval_lengths]))
        if lengths == "curriculum":
            stored = (self.start_length, self.start_length)
        for name, count, length in zip(("examples", "held_out"), (examples, held_out), stored, strict=True):
            check_range(name, count, 1, MAX_STEPS)
            if count * length > MAX_STEPS:
                raise ValueError(f"{name} must be <= {MAX_STEPS // length} with {length:,} steps each, got {count}")
        for length in eval_lengths:
            check_range("eval_lengths", length, self.shortest)
        if len(set(eval_lengths)) < len(eval_lengths):
            raise ValueError(f"eval_lengths must be distinct, got {list(eval_lengths)}")

    def _set_lengths(self, min_length: int | None, start_length: int | None) -> None:
        """Check and set the lengths of training."""
        check_choice("lengths", self.lengths, LengthProtocol)
        if self.lengths != "fixed" and not self.fresh:
            raise ValueError(f"fresh must be true with lengths={self.lengths}: examples are drawn at each step")
        self.min_length = self.shortest if min_length is None else min_length
        check_range("min_length", self.min_length, self.shortest, self.sequence_length)
        clamped = min(max(10, self.min_length), self.sequence_length)
        self.start_length = clamped if start_length is None else start_length
        check_range("start_length", self.start_length, self.min_length, self.sequence_length)
        check_range("growth", self.growth, above=1)
        check_range("patience", self.patience, 1)
        check_range("check_every", self.check_every, 1)
        for multiple in self.eval_multiples:
            check_range("eval_multiples", multiple, 1)
        if len(set(self.eval_multiples)) < len(self.eval_multiples):
            raise ValueError(f"eval_multiples must be distinct, got {list(self.eval_multiples)}")

    @abstractmethod
    def generate(self, count: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Sample sequences with their targets.

        Args:
            count: number of sequences.
            length: the distance.
            generator: the only source of randomness.

        Returns:
            Token ids ``[count, steps]`` or features ``[count, steps, features]``, and targets.
        """

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """Reference scores at ``sequence_length``."""

    def splits(self) -> Mapping[str, Examples]:
        """Generate the splits, and one called ``length <distance>`` for each of ``eval_lengths``.

        Those of a curriculum have the length that it starts with; the framework draws held-out examples of others.
        """
        length = self.start_length if self.lengths == "curriculum" else self.sequence_length
        sizes = (self.examples, self.held_out, self.held_out)
        splits = {
            name: self._examples(size, length, self.split_seed, index)
            for index, (name, size) in enumerate(zip(SPLITS, sizes, strict=True))
        }
        if self.lengths == "curriculum":
            return splits
        index = SPLITS.index("test")
        for length in self.eval_lengths:
            splits[f"length {length}"] = self._examples(self.held_out, length, self.split_seed, index, length)
        return splits

    def draw(self, count: int, seed: int, length: int | None = None) -> Examples:
        """Sample new training examples."""
        return self._examples(count, self.sequence_length if length is None else length, seed)

    def _examples(self, count: int, length: int, *seeds: int) -> Examples:
        mixed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint32)[0])
        inputs, targets = self.generate(count, length, Generator().manual_seed(mixed))
        if isinstance(self.inputs, InputSpec) and self.inputs.kind == "tokens":
            inputs = inputs.to(token_dtype(self.inputs.size - 1))
        steps = torch.full((count,), inputs.shape[1])
        return Examples(Ragged(inputs.flatten(0, 1), steps), targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the monitored metric reaches ``bounds.solved``."""
        score = metrics[self.monitor]
        return score >= self.bounds.solved if self.mode == "max" else score <= self.bounds.solved

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Return a table of the bounds."""
        row = {"metric": self.monitor, "sequence_length": self.sequence_length, **asdict(self.bounds)}
        return Report({"bounds": [row]})

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the options determine the task."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept the empty state.

        Raises:
            ValueError: the state is not empty.
        """
        if state:
            raise ValueError(f"a generated task has no state, got {', '.join(map(str, state))}")


class Deterministic(Generated, ABC):
    """Sequences whose targets are a function of the inputs at some or all positions."""

    def generate(self, count: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Sample sequences and compute their targets."""
        inputs = self.sequences(count, length, generator)
        return inputs, self.answer(inputs)

    @abstractmethod
    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample sequences: token ids ``[count, steps]``, or features ``[count, steps, features]``.

        Args:
            count: number of sequences.
            length: the distance.
            generator: the only source of randomness.
        """

    @abstractmethod
    def answer(self, inputs: Tensor) -> Tensor:
        """Return the targets of sequences, classes in int64; the first axis is the sequence."""

    @abstractmethod
    def relevant(self, inputs: Tensor) -> Bool[Tensor, "count steps"]:
        """Return the positions that the targets of each sequence depend on."""

    @abstractmethod
    def perturb(self, inputs: Tensor, where: Bool[Tensor, "count steps"], generator: Generator) -> Tensor:
        """Return the sequences with another value at these positions; markers of positions stay as they are."""


class TokenLabels(Deterministic, ABC):
    """Tokens with one of :math:`k` labels, which are a function of the sequence."""

    monitor = "accuracy"
    symbols: Sequence[str]
    """The symbols of the token ids from 1."""
    labels: Sequence[str]
    """The labels, in the order of the outputs."""

    @property
    def inputs(self) -> InputSpec:  # type: ignore[override]  # an attribute that is computed
        """The padding and the symbols."""
        return InputSpec("tokens", len(self.symbols) + 1, ("", *self.symbols))

    @property
    def outputs(self) -> int:
        """Number of labels."""
        return len(self.labels)

    @property
    def bounds(self) -> Bounds:
        """The baseline ``1/k``, and 1 as the optimum."""
        return Bounds(1 / self.outputs, 1.0, "the label is a function of the sequence", SOLVED)


class Labelled(TokenLabels, ClassificationTask, ABC):
    """One of :math:`k` equally frequent labels for each sequence of tokens, trained with cross-entropy."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs, batch.targets)

    def metrics(self) -> MetricCollection:
        """Return accuracy and cross-entropy (nats)."""
        return metric_collection(accuracy=Accuracy(self.outputs), loss=AverageLoss(cross_entropies))

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return equal scores for all labels."""
        return batch.inputs.new_zeros(len(batch.inputs), self.outputs).float()

    def label_names(self) -> Sequence[str]:
        """Return the labels."""
        return self.labels

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the likeliest labels of each row: ``[{"label": ..., "probability": ...}, ...]``."""
        return likeliest(outputs, top, self.labels)


def step_cross_entropies(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Return the summed negative log-probability of the true classes over all steps, in nats."""
    losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.double().sum(), losses.numel()


def metric_collection(**metrics: Metric) -> MetricCollection:
    """Return a collection of metrics with separate states."""
    return MetricCollection({**metrics}, compute_groups=[[name] for name in metrics])


def letters(count: int) -> list[str]:
    """Return ``count`` symbols: a, b, ..., or numbers if there are more than 26."""
    return [chr(ord("a") + index) for index in range(count)] if count <= 26 else [f"{i}" for i in range(count)]


def integers(
    low: int, high: int, shape: tuple[int, ...], generator: Generator, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Sample integers from ``low`` to ``high``, both included; the same ones in every dtype."""
    return torch.randint(low, high + 1, shape, generator=generator, dtype=dtype)


def token_dtype(largest: int) -> torch.dtype:
    """Return the smallest of the dtypes in which token ids up to ``largest`` are kept: an eighth of int64's memory."""
    return torch.uint8 if largest < 2**8 else torch.int16 if largest < 2**15 else torch.int64


def another(values: Tensor, low: int, high: int, generator: Generator) -> Tensor:
    """Sample, for each integer from ``low`` to ``high``, a different one in that range."""
    count = high - low + 1
    return (values.long() - low + integers(1, count - 1, tuple(values.shape), generator)) % count + low
