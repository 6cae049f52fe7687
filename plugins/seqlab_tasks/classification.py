"""What all tasks share that put a label on a sequence."""

import unicodedata
from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, ClassificationTask, Report
from seqlab_tasks.confusion import class_table, draw_confusion
from seqlab_tasks.metrics import Confusion, classification_metrics

MOST_LABELS = 2_500
"""Several metrics keep a count for each pair of labels: 50 MB each."""
Balance = Literal["none", "weights", "sampling"]


class Classification(ClassificationTask, ABC):
    r"""One of several labels for each sequence, by cross-entropy.

    Classes of unequal size are balanced, if at all, with weights ``w_c ∝ n_c^-power`` whose mean over the training
    examples is 1, either in the loss or in drawing the examples of an epoch.

    Args:
        sequence_length: steps that a sequence may have; the rest is cut off. ``None`` cuts nothing.
        balance: ``none``; ``weights`` in the loss; ``sampling`` with these weights, with replacement. The last two
            choose the checkpoint by balanced accuracy.
        balance_power: 0 leaves classes as they are, 1 gives all the same say.
        label_smoothing: share of the target that is spread over all classes; from 0 to below 1.

    Raises:
        ValueError: an option is out of its range.
    """

    noun: ClassVar[tuple[str, str]] = ("class", "classes")
    """What a label is, one and many."""

    def __init__(
        self, sequence_length: int | None, balance: Balance, balance_power: float, label_smoothing: float
    ) -> None:
        if sequence_length is not None and sequence_length < 1:
            raise ValueError(f"sequence_length is {sequence_length}; it must be at least 1")
        if balance not in ("none", "weights", "sampling"):
            raise ValueError(f"balance is {balance!r}; it must be one of none, weights, sampling")
        if not 0 <= balance_power <= 2:
            raise ValueError(f"balance_power is {balance_power}; it must be from 0 to 2")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be from 0 to below 1")
        self.sequence_length, self.balance, self.balance_power = sequence_length, balance, balance_power
        self.label_smoothing = label_smoothing
        self.notes: list[str] = []
        self._labels: list[str] = []
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._targets = torch.zeros(0, dtype=torch.int64)
        self._weights = torch.zeros(0)

    def learn_classes(self, labels: Sequence[str], targets: Tensor) -> None:
        """Take the labels, and their frequencies from the targets of the training split; for :meth:`splits` to call."""
        _check_labels(labels)
        self._labels, self._targets = list(labels), targets
        self._counts = torch.bincount(targets, minlength=len(labels))
        self._weights = balanced_weights(self._counts, self.balance_power)

    @property
    def monitor(self) -> str:
        """Balanced accuracy where classes are balanced, and accuracy where they are not."""
        return "accuracy" if self.balance == "none" else "balanced_accuracy"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the outputs.

        Raises:
            ValueError: they are not known yet.
        """
        if not self._labels:
            raise ValueError("the labels are not known yet; splits() or load_state_dict() comes first")
        return tuple(self._labels)

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return len(self.labels)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the mean cross-entropy, weighted if ``balance`` says so."""
        reduction = "none" if self.balance == "weights" else "mean"
        loss = F.cross_entropy(outputs, batch.targets, label_smoothing=self.label_smoothing, reduction=reduction)
        if self.balance != "weights":
            return loss
        # Not torch's own weights: they divide by their sum over the batch, so that a rare class counts for less
        # wherever it appears, and a smoothed target gives the rare classes most of what it spreads.
        self._weights = self._weights.to(outputs.device)
        return (loss * self._weights[batch.targets]).mean()

    def sample_weights(self) -> Tensor | None:
        """Weigh each training example by its class for ``balance=sampling``."""
        return self._weights.cpu()[self._targets] if self.balance == "sampling" else None

    def metrics(self) -> MetricCollection:
        """Make accuracy, balanced accuracy, macro F1, calibration error and cross-entropy."""
        return classification_metrics(self.outputs)

    def details(self) -> MetricCollection:
        """Make the confusion matrix ``[true, predicted]``."""
        return MetricCollection({"confusion": Confusion(self.outputs)})

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Make a table of the classes, and draw the confusion matrix as ``confusion.png``."""
        if "confusion" not in details:
            return Report(notes=list(self.notes))
        counts = details["confusion"].cpu().numpy()
        one, many = self.noun
        draw_confusion(counts, self.labels, one, folder / "confusion.png")
        return Report({many: class_table(counts, self.labels, one)}, ["confusion.png"], list(self.notes))

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Give the log of each class's share of the training split, one example more counted for each class."""
        smoothed = self._counts.double() + 1
        shares = (smoothed / smoothed.sum()).log().float()
        return shares.to(batch.inputs.device).expand(len(batch.inputs), -1)

    def label_names(self) -> Sequence[str]:
        """Name the labels."""
        return self.labels

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Name the likeliest classes of each row: ``[{"label": ..., "probability": ...}, ...]``."""
        return likeliest(outputs, top, self.labels)

    def state_dict(self) -> dict[str, Any]:
        """Give the labels, and how many training examples each has."""
        return {"labels": list(self.labels), "counts": self._counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: the state is not one that this task wrote.
        """
        if not isinstance(state, dict) or set(state) != {"labels", "counts"}:
            raise ValueError("the task's state must have labels and counts, and nothing else")
        labels, counts = state["labels"], state["counts"]
        if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
            raise ValueError("labels must be a list of texts")
        _check_labels(labels)
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise ValueError(f"labels must be at least 2, all different; here are {str(labels)[:200]}")
        if not isinstance(counts, list) or not all(type(count) is int and 0 < count < 2**63 for count in counts):
            raise ValueError("counts must be a list of whole numbers, each at least 1")
        if len(counts) != len(labels):
            raise ValueError(f"there are {len(counts)} counts for {len(labels)} labels")
        self._labels, self._counts = list(labels), torch.tensor(counts)
        self._weights = balanced_weights(self._counts, self.balance_power)


def _check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that would command a terminal, and so many that counting each pair takes gigabytes.

    Raises:
        ValueError: one has a control character, or there are too many.
    """
    if len(labels) > MOST_LABELS:
        raise ValueError(
            f"there are {len(labels):,} labels; metrics count each pair of them, of {MOST_LABELS:,} at most"
        )
    for label in labels:
        odd = next((letter for letter in label if unicodedata.category(letter) in ("Cc", "Cs")), None)
        if odd is not None:
            raise ValueError(f"the label {label[:80]!a} has the control character {odd!a}")


def likeliest(scores: Tensor, top: int, names: Sequence[str]) -> list[Any]:
    """Name the classes of greatest probability in each row of scores before softmax.

    Raises:
        ValueError: ``top`` is not positive.
    """
    if top < 1:
        raise ValueError(f"top is {top}; it must be at least 1")
    found = scores.float().softmax(-1).topk(min(top, len(names)), dim=-1)
    return [
        [{"label": names[index], "probability": value} for index, value in zip(indices, values, strict=True)]
        for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]


def balanced_weights(counts: Tensor, power: float) -> Tensor:
    """Weigh each class by ``count^-power``, scaled so that the mean over all examples is 1."""
    weights = counts.double().pow(-power)
    return (weights * (counts.sum() / (counts * weights).sum())).float()
