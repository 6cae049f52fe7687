"""Generated sequences with one label each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, ClassificationTask, InputSpec
from seqlab_tasks.classification import likeliest
from seqlab_tasks.metrics import Accuracy, CrossEntropy
from seqlab_tasks.synthetic.generated import Bounds, Determined

SOLVED = 0.99
"""Accuracy from which on such a task is solved: 20 errors in 2,000."""


class Labelled(Determined, ClassificationTask, ABC):
    r"""One of :math:`k` labels, all as frequent, for each sequence of tokens; by cross-entropy.

    Whoever ignores the sequence is right once in :math:`k` times; whoever remembers what is necessary, always.
    """

    @property
    @abstractmethod
    def symbols(self) -> Sequence[str]:
        """What the token ids stand for, from 1 on."""

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """The labels, in the order of the outputs."""

    @property
    def inputs(self) -> InputSpec:  # type: ignore[override]  # an attribute that is computed
        """The tokens, behind the padding."""
        return InputSpec("tokens", len(self.symbols) + 1, ("", *self.symbols))

    @property
    def monitor(self) -> str:
        """Accuracy."""
        return "accuracy"

    @property
    def outputs(self) -> int:
        """Number of labels."""
        return len(self.labels)

    @property
    def bounds(self) -> Bounds:
        """Chance is one in so many labels; the best is 1, for the label is a function of the sequence."""
        return Bounds(1 / self.outputs, 1.0, "the label is a function of the sequence", SOLVED)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the mean cross-entropy."""
        return F.cross_entropy(outputs, batch.targets)

    def metrics(self) -> MetricCollection:
        """Make accuracy and cross-entropy (nats)."""
        return MetricCollection(
            {"accuracy": Accuracy(self.outputs), "loss": CrossEntropy()}, compute_groups=[["accuracy"], ["loss"]]
        )

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Give all labels the same probability."""
        return batch.inputs.new_zeros(len(batch.inputs), self.outputs).float()

    def label_names(self) -> Sequence[str]:
        """Name the labels."""
        return self.labels

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Name the likeliest labels of each row: ``[{"label": ..., "probability": ...}, ...]``."""
        return likeliest(outputs, top, self.labels)


def letters(count: int) -> list[str]:
    """Name so many symbols: a, b, ..., and numbers where they do not do."""
    return [chr(ord("a") + index) for index in range(count)] if count <= 26 else [f"{i}" for i in range(count)]
