"""Contract of a task (data, loss, metrics) and its extensions for labels, generated data, language."""

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, TypeGuard, final, get_args

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection

from seqlab.contracts.api import adapt_task
from seqlab.contracts.batch import Batch, Corpus, Examples
from seqlab.contracts.model import InputSpec
from seqlab.contracts.space import SearchSpace

LengthMeaning: TypeAlias = Literal["maximum", "window", "distance"]
"""``maximum``: longer texts are truncated; ``window``: of running text; ``distance``: may be searched."""
LengthProtocol: TypeAlias = Literal["fixed", "uniform", "curriculum"]
"""Lengths of generated training sequences: all equal, drawn from a range, or below a ceiling that grows."""


@final
@dataclass(frozen=True)
class Report:
    """Results of a task beyond its scalar metrics.

    Attributes:
        tables: plain JSON values for ``results.json``, by name: lists of rows, each a ``dict``.
        figures: names of the picture files written into the run folder.
        notes: lines worth a reader's attention (rows dropped in cleaning, say).
    """

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@final
@dataclass(frozen=True)
class TaskDefaults:
    """Class-level settings of a task, given as keywords of the class: ``class Names(Task, preprocessing="words")``.

    Attributes:
        preprocessing: the default preprocessing plugin; ``None`` for a task whose inputs are tensors.
        presets: further config groups with another default, such as ``{"data": "text"}``.
        max_epochs: default of ``trainer.max_epochs``.
        sequence_length_means: what ``task.sequence_length`` sets; an attribute of the same name, set by a constructor,
            overrides it.
        min_updates: least number of optimiser updates, by which ``data.batch_size=auto`` and
            ``trainer.max_epochs=auto`` are chosen on small data; 0 keeps the defaults.
        of_model: defaults of other config keys, by the chosen model, such as
            ``{"recurrent": {"model.pooling": "max", "preprocessing.min_count": 2}}``. They hold for options that a
            plugin lets the task choose (:attr:`.Model.from_task`, :attr:`.Preprocessor.from_task`).
        of_source: the same for public data, by the task's ``source``; they hold while the task's ``data`` is null, in
            place of those of the model.
    """

    preprocessing: str | None = None
    presets: Mapping[str, str] = field(default_factory=dict)
    max_epochs: int = 25
    sequence_length_means: LengthMeaning = "maximum"
    min_updates: int = 0
    of_model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    of_source: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sequence_length_means not in (known := get_args(LengthMeaning)):
            raise ValueError(
                f"sequence_length_means must be one of {', '.join(known)}, got {self.sequence_length_means!r}"
            )


_EXTENSIONS: dict[str, type] = {}
"""The class that has a member which plugin API 1 had in :class:`Task`."""


class Task(ABC):
    """Data, loss and metrics of one problem, in plain torch and torchmetrics.

    A constructor checks its arguments and reads no data. Each argument has a default and is a config key;
    ``sequence_length`` is one of every task, and an attribute of the same name. Keywords of the class are those of
    :class:`TaskDefaults`, whose values a user's choice overrides.
    """

    per_step: ClassVar[bool] = False
    """Whether there is one output per time step instead of one per sequence."""

    def __init__(self, sequence_length: int | None = None) -> None:
        self.sequence_length = sequence_length

    def __init_subclass__(cls, **defaults: Any) -> None:
        super().__init_subclass__()
        TaskDefaults(**defaults)  # raises for a wrong keyword or value
        cls._defaults = defaults | adapt_task(cls, _EXTENSIONS)

    _defaults: ClassVar[Mapping[str, Any]] = {}

    @property
    @abstractmethod
    def monitor(self) -> str:
        """Name of the metric that chooses the checkpoint."""

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether the monitored metric is better when smaller or larger."""
        return "max"

    @abstractmethod
    def splits(self) -> Mapping[str, Examples] | Mapping[str, Corpus]:
        """Read or generate ``train``, ``valid`` and ``test``; further splits of examples are tested after training.

        Raises:
            ValueError, OSError: the data are not available; the message says what to do.
        """

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of outputs of the head; known once the data was read or :meth:`load_state_dict` called."""

    def head(self, features: int) -> nn.Module:
        """Make the layer from a model's features to the outputs; linear unless overridden."""
        return nn.Linear(features, self.outputs)

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the scalar training loss: a mean over the rows, or over the valid time steps if ``per_step``.

        With several devices each computes the loss of its shard; shards are weighted by their rows or steps.
        """

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Make fresh scalar metrics; each is updated with ``(outputs, targets)``.

        The 95 % interval of one with a method ``interval()`` is the pair that it returns, after an update with all
        examples.
        """

    @abstractmethod
    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return outputs of the best predictor that ignores its input: the input-independent baseline.

        It may use the targets of the training split, never those of this batch.
        """

    @abstractmethod
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Convert outputs to what ``predict`` prints: plain JSON values, one per row."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model needs of the data (labels, say) as plain JSON values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: this task did not write the state.
        """


class ReportingTask(Task):
    """A task with results beyond scalar metrics; base of the extensions below."""

    def details(self) -> MetricCollection | None:
        """Make fresh metrics that are not scalar (a confusion matrix, say); computed on the test split only."""
        return None

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Convert the computed details to tables and to pictures in ``folder``."""
        return Report()

    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        """Compute further metrics, of other names, from a split's metrics and statistics (``tokens``, ``bytes``).

        Only running text has statistics.
        """
        return {}


class ClassificationTask(ReportingTask, sequence_length_means="maximum"):
    """One label for each sequence; a target is its label's index."""

    @abstractmethod
    def label_names(self) -> Sequence[str]:
        """Return the labels, in the order of the outputs."""

    def class_of(self, label: str) -> str:
        """Return the class of a label as a table has it; the label itself unless the task renames or merges some."""
        return label

    def sample_weights(self) -> Tensor | None:
        """Return the weight of each training example in drawing an epoch; ``None`` takes each once."""
        return None

    def loss_weights(self) -> Tensor | None:
        """Return the weight of each training example in the loss; ``None`` for equal ones."""
        return None

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return the options that ``tune`` varies; none unless overridden.

        ``model`` and ``preprocessing``, if there, name the plugins to try.
        """
        return {}

    def linear_baseline(self) -> Mapping[str, Any] | None:
        """Return the config nodes ``model`` and ``preprocessing`` of a baseline that learns; ``None`` for none.

        The model implements :meth:`.Model.fit`; it is fitted beside every run and scored on the same splits.
        """
        return None

    @property
    def outputs(self) -> int:
        """Number of labels."""
        return len(self.label_names())

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the mean cross-entropy."""
        return F.cross_entropy(outputs, batch.targets)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the likeliest labels of each row: ``[{"label": ..., "probability": ...}, ...]``."""
        names = self.label_names()
        found = outputs.float().softmax(-1).topk(min(top, len(names)), dim=-1)
        return [
            [{"label": names[index], "probability": value} for index, value in zip(indices, values, strict=True)]
            for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]


class VaryingLengths(ReportingTask):
    """Lengths of the sequences of a generated task, set by its constructor."""

    lengths: LengthProtocol = "fixed"
    """``uniform`` draws the length of each batch from ``[min_length, sequence_length]``, ``curriculum`` from
    ``[ceiling / 2, ceiling]``."""
    min_length: int = 1
    """The shortest training sequences."""
    start_length: int = 10
    """The first ceiling of a curriculum."""
    growth: float = 1.5
    """Factor by which the ceiling grows, up to ``sequence_length``, when validation at it solves the task."""
    patience: int = 1
    """Number of consecutive validations that must solve the task before the ceiling grows."""
    check_every: int = 50
    """Number of batches of an epoch of a curriculum, which ends with a validation at the ceiling."""
    eval_lengths: Sequence[int] = ()
    """Further lengths at which the trained model is tested."""
    eval_multiples: Sequence[int] = ()
    """The same as multiples of the length of the test split."""
    split_seed: int = 0
    """Seed of the held-out examples of other lengths."""


class GeneratedTask(VaryingLengths, sequence_length_means="distance"):
    """Generated sequences of a length that may be chosen freely.

    A task whose constructor sets the attributes of :class:`VaryingLengths`, and whose :meth:`draw` takes a length,
    trains on lengths that vary. Whatever depends on the length reads ``sequence_length`` when it is asked: the
    framework changes that attribute of a copy.
    """

    fresh: bool = False
    """Whether :meth:`draw` makes new training examples at every step, in place of those of the training split."""
    inputs: InputSpec | None = None
    """What an input step is; ``None`` infers it from the training split."""

    def draw(self, count: int, seed: int, length: int | None = None) -> Examples:
        """Draw training examples, if ``fresh``; an epoch has as many as the training split.

        Args:
            count: number of examples.
            seed: the only source of randomness: the same seed draws the same examples in every process.
            length: distance of all of them, in place of ``sequence_length``; a task whose lengths are always fixed may
                leave out this argument.

        Raises:
            TypeError: the task is ``fresh`` and does not override this method.
        """
        raise TypeError(f"{type(self).__name__}.fresh is True, but the class has no method draw")

    def solved(self, metrics: Mapping[str, float]) -> bool | None:
        """Return whether these test metrics solve the task; ``None`` if there is no such threshold."""
        return None


class StatefulTask(ReportingTask):
    """A task in which each batch continues the one before it, so that models carry their state over.

    Splits are a :class:`Corpus`, or :class:`Examples` in order; they are neither shuffled nor sampled.
    """


class LanguageTask(StatefulTask, sequence_length_means="window"):
    """Prediction of each next token of running text.

    Splits are a :class:`Corpus`, whose targets the framework makes (0 where there is none), or :class:`Examples` of
    consecutive windows with their targets.
    """

    per_step = True

    def set_vocabulary(self, inputs: InputSpec, counts: Tensor) -> None:  # not all tasks need it
        """Receive the vocabulary of a :class:`Corpus`.

        Args:
            inputs: what an input step is.
            counts: occurrences of each token id in the training split, ``[inputs.size]``.
        """


_EXTENSIONS |= {
    "details": ReportingTask,
    "report": ReportingTask,
    "derived": ReportingTask,
    "label_names": ClassificationTask,
    "sample_weights": ClassificationTask,
    "fresh": GeneratedTask,
    "inputs": GeneratedTask,
    "draw": GeneratedTask,
    "solved": GeneratedTask,
    "carries_state": StatefulTask,
    "set_vocabulary": LanguageTask,
}


# What tasks without an extension give ---------------------------------------------------------------------------------


def task_defaults(task: Task | type[Task]) -> TaskDefaults:
    """Return the class-level settings of a task."""
    kind = task if isinstance(task, type) else type(task)
    merged: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        merged |= vars(base).get("_defaults", {})
    if "sequence_length_means" in vars(task):
        merged |= {"sequence_length_means": vars(task)["sequence_length_means"]}
    return TaskDefaults(**merged)


def max_length(task: Task) -> int | None:
    """Return the steps to which sequences are truncated; ``None`` if they are not."""
    return task.sequence_length if task_defaults(task).sequence_length_means == "maximum" else None


def label_names(task: Task) -> Sequence[str] | None:
    """Return the labels of a classification task, ``None`` for any other."""
    return task.label_names() if isinstance(task, ClassificationTask) else None


def class_of(task: Task, label: str) -> str:
    """Return the class of a label in a classification task, the label itself in any other."""
    return task.class_of(label) if isinstance(task, ClassificationTask) else label


def sample_weights(task: Task) -> Tensor | None:
    """Return the weights of the training examples, ``None`` for equal weights."""
    return task.sample_weights() if isinstance(task, ClassificationTask) else None


def fit_weights(task: Task) -> Tensor | None:
    """Return the weights of the training examples, by sampling or in the loss, ``None`` for equal weights."""
    if (sampled := sample_weights(task)) is not None or not isinstance(task, ClassificationTask):
        return sampled
    return task.loss_weights()


def linear_baseline(task: Task) -> Mapping[str, Any] | None:
    """Return the config nodes of the baseline of a classification task; ``None`` if there is none."""
    return task.linear_baseline() if isinstance(task, ClassificationTask) else None


def detail_metrics(task: Task) -> MetricCollection | None:
    """Make the metrics that are not scalar, if there are any."""
    return task.details() if isinstance(task, ReportingTask) else None


def task_report(task: Task, details: Mapping[str, Tensor], folder: Path) -> Report:
    """Convert the computed details to a report; empty for a task without one."""
    return task.report(details, folder) if isinstance(task, ReportingTask) else Report()


def derived_metrics(task: Task, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
    """Compute the further metrics of a task that has some."""
    return task.derived(metrics, statistics) if isinstance(task, ReportingTask) else {}


def is_fresh(task: Task) -> TypeGuard[GeneratedTask]:
    """Return whether training examples are drawn anew at every step."""
    return isinstance(task, GeneratedTask) and task.fresh


def input_spec(task: Task) -> InputSpec | None:
    """Return what an input step is, if the task knows it before it reads its data."""
    return task.inputs if isinstance(task, GeneratedTask) else None


def takes_length(task: GeneratedTask) -> bool:
    """Return whether examples of a given length can be drawn."""
    return "length" in inspect.signature(task.draw).parameters


def is_solved(task: Task, metrics: Mapping[str, float]) -> bool | None:
    """Return whether these test metrics solve the task; ``None`` if there is no threshold."""
    return task.solved(metrics) if isinstance(task, GeneratedTask) else None


def at_length(task: Task, length: int | None) -> Task:
    """Return a copy of a task whose ``sequence_length`` is another one; the task itself for ``None``."""
    if length is None or length == task.sequence_length:
        return task
    other = copy.copy(task)
    other.sequence_length = length
    return other
