"""Tasks that are right, and small, with one output for a text; only one of them is like the shipped ones."""

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seqlab import Batch, Examples, Task

from .faults import Fault

SPLITS = ("train", "valid", "test")
IGNORED = -100


def positive(sequence_length: int | None) -> int | None:
    if sequence_length is not None and sequence_length < 1:
        raise ValueError(f"sequence_length is {sequence_length}; it must be at least 1")
    return sequence_length


def steps_of(batch: Batch) -> Tensor:
    """Which steps of the batch are no padding."""
    rows, time = batch.inputs.shape[:2]
    lengths = torch.full((rows,), time) if batch.lengths is None else batch.lengths
    return torch.arange(time) < lengths.unsqueeze(1)


class Head(nn.Linear):
    """A linear layer that changes its features first."""

    def __init__(self, features: int, outputs: int, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__(features, outputs)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.change(self, x))


class Small(Fault, Task):
    """Base of the tasks here; ``measures`` makes the metrics by name, ``layer`` the head, of changed ``features``."""

    measures: tuple[tuple[str, Callable[[], Metric]], ...] = ()
    layer: Callable[[int, int], nn.Module] = nn.Linear
    features: Callable[[nn.Module, Tensor], Tensor] | None = None

    def metrics(self) -> MetricCollection:
        return MetricCollection({name: make() for name, make in self.measures})

    def head(self, features: int) -> nn.Module:
        return (
            type(self).layer(features, self.outputs)
            if self.features is None
            else Head(features, self.outputs, self.features)
        )

    def change(self, made: dict[str, Examples]) -> None:
        """Spoil the splits; for subclasses."""


class NoState:
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise ValueError(f"it has no state, but here is {', '.join(state)}")


class MeanState:
    """The state is the mean of the targets."""

    mean = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"mean"} or not isinstance(state["mean"], float):
            raise ValueError(f"the state must be a mean and nothing else, not {state}")
        self.mean = state["mean"]


class TwoClasses(Small):
    """Texts of a, b and c: does one hold an ``aa``? Seldom. The targets are classes."""

    preprocessing = "characters"
    sequence_length_means = "maximum"
    names = ("without", "with")

    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        self.split_seed, self.sequence_length = split_seed, positive(sequence_length)
        self.labels: list[str] = []
        self.shares: list[float] = []

    monitor = "accuracy"

    def texts(self) -> list[str]:
        draw = random.Random(3)
        return sorted({"".join(draw.choices("abc", (1, 3, 3), k=draw.randint(3, 9))) for _ in range(250)})

    def splits(self) -> Mapping[str, Examples]:
        texts = self.texts()
        random.Random(self.split_seed).shuffle(texts)
        parts = dict(zip(SPLITS, (texts[:-100], texts[-100:-50], texts[-50:]), strict=True))
        made = {
            name: Examples(part, torch.tensor(["aa" in text for text in part]).long()) for name, part in parts.items()
        }
        self.labels = list(self.names)
        self.shares = (torch.bincount(made["train"].targets, minlength=2) / len(made["train"])).tolist()
        self.change(made)
        return made

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    measures = (("accuracy", lambda: MulticlassAccuracy(2, average="micro")),)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares).log().expand(len(batch.inputs), 2)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        order = outputs.argsort(-1, descending=True)[:, :top].tolist()
        return [[self.labels[label] for label in row] for row in order]

    def state_dict(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "shares": list(self.shares)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"labels", "shares"}:
            raise ValueError(f"the state must have labels and shares, not {', '.join(sorted(state))}")
        labels, shares = state["labels"], state["shares"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("labels must be a list of texts")
        if not isinstance(shares, list) or not all(isinstance(share, float) for share in shares):
            raise ValueError("shares must be a list of numbers")
        self.labels, self.shares = list(labels), list(shares)


class Mean(Metric):
    """A mean over all that :meth:`values` gives."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor: ...

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        values = self.values(outputs, targets)
        self.total += values.sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        return (self.total / self.count).float()


class Signs(Mean):
    """Accuracy of one score."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs.squeeze(1) > 0) == targets.bool()).double()


class Yes(TwoClasses):
    """The same with one output: the score of yes against no, which is all that decode shows."""

    outputs = 1

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs.squeeze(1), batch.targets.float())

    measures = (("accuracy", Signs),)

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares[1]).logit().expand(len(batch.inputs), 1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.squeeze(1).sigmoid().tolist()
