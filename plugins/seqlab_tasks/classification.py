"""Base class of tasks that assign a label to a sequence."""

import unicodedata
from abc import ABC
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, Choice, ClassificationTask, Report, SearchSpace, UserError
from seqlab.errors import check_choice, check_range
from seqlab.io.safe_io import read_not_sparse
from seqlab_tasks.metrics import Confusion, class_table, classification_metrics, draw_confusion

MAX_LABELS = 2_500
"""Several metrics keep a count for each pair of labels: 50 MB each."""
TEXT_MODELS = Choice(("recurrent", "bow"))
"""Models to try on texts."""
Balance = Literal["none", "weights", "sampling"]
Baseline = Literal["linear", "none"]


class Classification(ClassificationTask, ABC):
    r"""One of several labels for each sequence, trained with cross-entropy.

    Class weights ``w_c ∝ n_c^-power``, with mean 1 over the training examples, handle class imbalance: in the loss, or
    as sampling weights.

    Args:
        sequence_length: longest sequence; the rest is cut off. ``None`` cuts nothing.
        balance: ``none``; ``weights`` in the loss; ``sampling`` with these weights, with replacement. The last two
            choose the checkpoint by balanced accuracy.
        balance_power: 0 leaves the classes as they are, 1 gives all the same total weight.
        label_smoothing: share of the target spread over all classes; >= 0 and < 1.

    Raises:
        ValueError: an option is out of range.
    """

    noun: ClassVar[tuple[str, str]] = ("class", "classes")
    """Word for a label, singular and plural."""

    def __init__(
        self, sequence_length: int | None, balance: Balance, balance_power: float, label_smoothing: float
    ) -> None:
        if sequence_length is not None:
            check_range("sequence_length", sequence_length, 1)
        check_choice("balance", balance, Balance)
        check_range("balance_power", balance_power, 0, 2)
        check_range("label_smoothing", label_smoothing, 0, below=1)
        self.sequence_length, self.balance, self.balance_power = sequence_length, balance, balance_power
        self.label_smoothing = label_smoothing
        self.notes: list[str] = []
        self._labels: list[str] = []
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._targets = torch.zeros(0, dtype=torch.int64)
        self._weights = torch.zeros(0)

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return class balance and label smoothing."""
        return {"balance": Choice(("none", "weights")), "label_smoothing": Choice((0.1, 0.0))}

    def set_classes(self, labels: Sequence[str], targets: Tensor) -> None:
        """Set the labels, and their frequencies from the training targets; called by :meth:`splits`."""
        _check_labels(labels)
        self._labels, self._targets = list(labels), targets
        self._counts = torch.bincount(targets, minlength=len(labels))
        self._weights = balanced_weights(self._counts, self.balance_power)

    @property
    def monitor(self) -> str:
        """Accuracy, or balanced accuracy if classes are balanced."""
        return "accuracy" if self.balance == "none" else "balanced_accuracy"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the outputs.

        Raises:
            ValueError: they are not known yet.
        """
        if not self._labels:
            raise ValueError("labels are not known yet; call splits() or load_state_dict() first")
        return tuple(self._labels)

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return len(self.labels)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy, weighted if ``balance=weights``."""
        reduction = "none" if self.balance == "weights" else "mean"
        loss = F.cross_entropy(outputs, batch.targets, label_smoothing=self.label_smoothing, reduction=reduction)
        if self.balance != "weights":
            return loss
        # Not the weights of torch: it divides by their sum over the batch, which makes a rare class count less
        # wherever it occurs, and gives rare classes most of a smoothed target.
        self._weights = self._weights.to(outputs.device)
        return (loss * self._weights[batch.targets]).mean()

    def sample_weights(self) -> Tensor | None:
        """Return the class weight of each training example if ``balance=sampling``."""
        return self._weights.cpu()[self._targets] if self.balance == "sampling" else None

    def loss_weights(self) -> Tensor | None:
        """Return the class weight of each training example if ``balance=weights``."""
        return self._weights.cpu()[self._targets] if self.balance == "weights" else None

    def metrics(self) -> MetricCollection:
        """Return accuracy, balanced accuracy, macro F1, calibration error and cross-entropy."""
        return classification_metrics(self.outputs)

    def details(self) -> MetricCollection:
        """Return the confusion matrix ``[true, predicted]``."""
        return MetricCollection({"confusion": Confusion(self.outputs)})

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Return a table of the classes, and draw the confusion matrix as ``confusion.png``."""
        if "confusion" not in details:
            return Report(notes=list(self.notes))
        counts = details["confusion"].cpu().numpy()
        one, many = self.noun
        draw_confusion(counts, self.labels, one, folder / "confusion.png")
        return Report({many: class_table(counts, self.labels, one)}, ["confusion.png"], list(self.notes))

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return the log of each class's share of the training split, with add-one smoothing."""
        smoothed = self._counts.double() + 1
        shares = (smoothed / smoothed.sum()).log().float()
        return shares.to(batch.inputs.device).expand(len(batch.inputs), -1)

    def label_names(self) -> Sequence[str]:
        """Return the labels."""
        return self.labels

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the likeliest classes of each row: ``[{"label": ..., "probability": ...}, ...]``."""
        return likeliest(outputs, top, self.labels)

    def state_dict(self) -> dict[str, Any]:
        """Return the labels and the number of training examples of each."""
        return {"labels": list(self.labels), "counts": self._counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned; a ValueError says what is wrong with it."""
        if not isinstance(state, dict) or set(state) != {"labels", "counts"}:
            raise ValueError("the task's state must have exactly labels and counts")
        labels, counts = state["labels"], state["counts"]
        if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
            raise ValueError("labels must be a list of texts")
        _check_labels(labels)
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise ValueError(f"labels must be at least 2, all different, got {str(labels)[:200]}")
        if not isinstance(counts, list) or not all(type(count) is int and 0 < count < 2**63 for count in counts):
            raise ValueError("counts must be a list of integers >= 1")
        if len(counts) != len(labels):
            raise ValueError(f"counts must be {len(labels)}, one per label, got {len(counts)}")
        self._labels, self._counts = list(labels), torch.tensor(counts)
        self._weights = balanced_weights(self._counts, self.balance_power)


def _check_labels(labels: Sequence[str]) -> None:
    """Refuse control characters, which a terminal would execute, and too many labels for the confusion matrix."""
    if len(labels) > MAX_LABELS:
        raise ValueError(f"the number of labels must be <= {MAX_LABELS:,}, got {len(labels):,}")
    for label in labels:
        control = next((letter for letter in label if unicodedata.category(letter) in ("Cc", "Cs")), None)
        if control is not None:
            raise ValueError(f"the label {label[:80]!a} has the control character {control!a}")


def likeliest(scores: Tensor, top: int, names: Sequence[str]) -> list[Any]:
    """Return the classes of greatest probability in each row of scores before softmax.

    Raises:
        ValueError: ``top`` is not positive.
    """
    check_range("top", top, 1)
    found = scores.float().softmax(-1).topk(min(top, len(names)), dim=-1)
    return [
        [{"label": names[index], "probability": value} for index, value in zip(indices, values, strict=True)]
        for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]


def balanced_weights(counts: Tensor, power: float) -> Tensor:
    """Return class weights ``count^-power``, scaled to a mean of 1 over all examples."""
    weights = counts.double().pow(-power)
    return (weights * (counts.sum() / (counts * weights).sum())).float()


def check_paths(data: str | None, data_dir: str | None) -> None:
    """Check that at most one of a user's file and folder is set, and none is empty.

    Raises:
        ValueError: otherwise.
    """
    for name, value in (("data", data), ("data_dir", data_dir)):
        if value == "":
            raise ValueError(f"{name} must be a path or null, got an empty text")
    if data is not None and data_dir is not None:
        raise ValueError(f"data={data} and data_dir={data_dir} are both set; remove one of them")


def user_folder(path: str, where: str) -> Path:
    """Return a user's folder.

    Raises:
        ValueError: it does not exist.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{where}: {'not a folder' if folder.exists() else 'no such folder'}")
    return folder


def read_file(file: Traversable, where: str) -> bytes:
    """Read a file.

    Raises:
        ValueError, OSError: it cannot be read.
    """
    try:
        return read_not_sparse(file) if isinstance(file, Path) else file.read_bytes()
    except (UserError, ValueError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    except OSError as error:
        raise OSError(f"{where} cannot be read: {error.strerror}") from error
