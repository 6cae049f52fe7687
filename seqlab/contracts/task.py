"""A task is data, a loss and metrics."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn
from torchmetrics import MetricCollection

from seqlab.contracts.batch import Batch, Corpus, Examples
from seqlab.contracts.model import InputSpec


@final
@dataclass(frozen=True)
class Report:
    """What a task has to say beyond its scalar metrics.

    Attributes:
        tables: plain JSON values for ``results.json``, by name: lists of rows, each a ``dict``.
        figures: names of the picture files that were written into the run folder.
        notes: lines worth a reader's attention (rows dropped in cleaning, say).
    """

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Task(ABC):
    """Data, loss and metrics of one problem: torch and torchmetrics, no Lightning.

    A constructor only checks its arguments and reads no data; every argument has a default and is an option in the
    config. ``sequence_length`` is an option of every task.
    """

    preprocessing: ClassVar[str | None] = None
    """The default preprocessing plugin; ``None`` for a task whose inputs are tensors. The user's choice wins."""
    presets: ClassVar[Mapping[str, str]] = {}
    """Config groups of which this task wants another default, such as ``{"data": "text"}``; the user's choice wins."""
    max_epochs: ClassVar[int] = 25
    """Epochs of training, at most; the user's ``trainer.max_epochs`` wins."""
    carries_state: ClassVar[bool] = False
    """Whether a batch continues the one before it, so that the state is carried over.

    Splits are a :class:`Corpus`, or :class:`Examples` in the order in which they follow on one another: they are not
    shuffled, ``fresh`` is false, and :meth:`sample_weights` gives ``None``.
    """
    per_step: ClassVar[bool] = False
    """Whether there is one output for each time step instead of one for each sequence."""
    sequence_length_means: ClassVar[Literal["maximum", "window", "distance"]]
    """What ``task.sequence_length`` sets."""

    sequence_length: int | None
    fresh: bool = False
    """Whether :meth:`draw` makes the batches of training anew, in place of the training split's examples."""
    inputs: InputSpec | None = None
    """What an input step is, of a task of tensors that knows it; ``None`` reads it off the training split."""

    @property
    @abstractmethod
    def monitor(self) -> str:
        """The metric that chooses the checkpoint."""

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether the monitored metric is better when smaller or larger."""
        return "max"

    @abstractmethod
    def splits(self) -> Mapping[str, Examples] | Mapping[str, Corpus]:
        """Read or generate the data: ``train``, ``valid`` and ``test``.

        Further splits of examples are scored after training, like the test split, each by itself.

        A task that carries state may give running text: each batch then continues the one before it, the targets are
        the next tokens, and 0 where there is none.

        Raises:
            ValueError, OSError: the data cannot be had; the message says what to do.
        """

    def draw(self, count: int, seed: int) -> Examples:
        """Draw new training examples, for a task that is ``fresh``; an epoch has as many as the training split.

        Args:
            count: how many.
            seed: the only source of randomness: the same one draws the same examples, on every process.

        Raises:
            TypeError: the task is ``fresh`` without having this method.
        """
        raise TypeError(f"{type(self).__name__} is fresh, but draws nothing: it has no method draw")

    def observe(self, inputs: InputSpec, counts: Tensor) -> None:  # noqa: B027  # most tasks need nothing of it
        """Take note of the encoded training split of running text.

        Args:
            inputs: what an input step is.
            counts: how often each token id occurs, ``[inputs.size]``.
        """

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of outputs of the head; known once the data was read, or :meth:`load_state_dict` ran."""

    def head(self, features: int) -> nn.Module:
        """Make the layer from a model's features to the outputs."""
        return nn.Linear(features, self.outputs)

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the scalar training loss: a mean over the rows, or over the valid time steps if ``per_step``.

        On several devices each computes it of its share of the batch, and the shares are weighed by rows or steps.
        """

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Make fresh scalar metrics; each is updated with ``(outputs, targets)``."""

    def derived(self, metrics: Mapping[str, float], statistics: Mapping[str, Any]) -> dict[str, float]:
        """Compute further figures from a split's metrics and statistics (``tokens``, ``bytes``).

        There are statistics of running text only; the names must not be those of metrics.
        """
        return {}

    def details(self) -> MetricCollection | None:
        """Make fresh metrics that are no scalars (a confusion matrix, say); computed on the test split only."""
        return None

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Turn the computed details into tables and pictures in ``folder``."""
        return Report()

    @abstractmethod
    def blind_outputs(self, batch: Batch) -> Tensor:
        """Give the outputs of the best predictor that ignores its input, for this batch: the chance line.

        It may know the training split's targets, never this batch's.
        """

    def sample_weights(self) -> Tensor | None:
        """Weight of each training example in drawing an epoch; ``None`` takes each once."""
        return None

    def solved(self, metrics: Mapping[str, float]) -> bool | None:
        """Say whether these test metrics solve the task; ``None`` for a task that has no such line."""
        return None

    def label_names(self) -> Sequence[str] | None:
        """Name the labels of a task that puts one on each sequence; ``None`` for any other.

        A target is its label's index here, and ``decode`` gives each row as ``[{"label": ..., "probability": ...}]``.
        """
        return None

    @abstractmethod
    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Turn outputs into what ``predict`` shows: for each row, plain JSON values."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What a trained model's user needs of the data (labels, say), as plain JSON values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: the state is not one that this task wrote.
        """
