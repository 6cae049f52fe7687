"""Tasks that are right, and small; only one of them is like the shipped ones."""

import random
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seqlab import Batch, Examples, Ragged, Report, Task

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


class TwoClasses(Task):
    """Texts of a, b and c: does one hold an ``aa``? Seldom. The targets are classes."""

    preprocessing = "characters"
    sequence_length_means = "maximum"
    names = ("without", "with")

    def __init__(self, split_seed: int = 0, sequence_length: int | None = None) -> None:
        self.split_seed, self.sequence_length = split_seed, positive(sequence_length)
        self.labels: list[str] = []
        self.shares: list[float] = []

    @property
    def monitor(self) -> str:
        return "accuracy"

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
        return made

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro")})

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


class Yes(TwoClasses):
    """The same with one output: the score of yes against no, which is all that decode shows."""

    @property
    def outputs(self) -> int:
        return 1

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs.squeeze(1), batch.targets.float())

    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": Signs()})

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares[1]).logit().expand(len(batch.inputs), 1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.squeeze(1).sigmoid().tolist()


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


class SquaredError(Mean):
    """Over the steps whose target is a number."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = (outputs - targets[:, : outputs.shape[1]]).square()
        return error[~error.isnan()]


class RunningSum(Task):
    """Regression at each step of ragged features: the sum so far. NaN stands behind each row's last target."""

    per_step = True
    sequence_length_means = "distance"

    def __init__(self, sequence_length: int = 6) -> None:
        self.sequence_length = positive(sequence_length)
        self.mean = 0.0

    @property
    def monitor(self) -> str:
        return "squared_error"

    @property
    def mode(self) -> Literal["min", "max"]:
        return "min"

    @property
    def outputs(self) -> int:
        return 1

    def splits(self) -> Mapping[str, Examples]:
        made = {}
        for seed, (name, rows) in enumerate(zip(SPLITS, (120, 30, 30), strict=True)):
            made[name] = self._made(rows, torch.Generator().manual_seed(seed))
        self.mean = float(made["train"].targets.nanmean())
        return made

    def _made(self, rows: int, generator: torch.Generator) -> Examples:
        lengths = torch.randint(self.sequence_length, 2 * self.sequence_length + 1, (rows,), generator=generator)
        parts = [torch.rand(length, 2, generator=generator) for length in lengths.tolist()]
        targets = torch.full((rows, int(lengths.max()), 1), torch.nan)
        for row, part in enumerate(parts):
            targets[row, : len(part)] = part.sum(1, keepdim=True).cumsum(0)
        return Examples(Ragged.of(parts), targets)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        steps = steps_of(batch)  # taken out before the difference: zero times NaN would be the gradient of padding
        return F.mse_loss(outputs[steps], batch.targets[:, : outputs.shape[1]][steps])

    def metrics(self) -> MetricCollection:
        return MetricCollection({"squared_error": SquaredError()})

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.full((*batch.inputs.shape[:2], 1), self.mean)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["squared_error"] < 0.01

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.squeeze(-1).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state) != {"mean"} or not isinstance(state["mean"], float):
            raise ValueError(f"the state must be a mean and nothing else, not {state}")
        self.mean = state["mean"]


class FreshSum(RunningSum):
    """The same, drawn anew for every batch."""

    fresh = True

    def draw(self, count: int, seed: int) -> Examples:
        return self._made(count, torch.Generator().manual_seed(1000 + seed))


class CrossEntropy(Mean):
    """In nats a step."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").double()


class Perplexity(CrossEntropy):
    """Its exponential, which is not the mean of the batches' own."""

    def compute(self) -> Tensor:
        return super().compute().exp()


class NextToken(Task):
    """A tiny language model: windows of one stream of tokens, each carried on by the next."""

    carries_state = True
    per_step = True
    sequence_length_means = "window"
    tokens = 9

    def __init__(self, sequence_length: int = 16) -> None:
        self.sequence_length = positive(sequence_length)
        self.shares: list[float] = []

    @property
    def monitor(self) -> str:
        return "perplexity"

    @property
    def mode(self) -> Literal["min", "max"]:
        return "min"

    @property
    def outputs(self) -> int:
        return self.tokens + 1

    def splits(self) -> Mapping[str, Examples]:
        made = {}
        for seed, (name, rows) in enumerate(zip(SPLITS, (60, 20, 20), strict=True)):
            draw = random.Random(seed)
            stream = [1]
            for _ in range(rows * self.sequence_length):
                stream.append((stream[-1] + draw.choice([1, 1, 1, 2, 4])) % self.tokens + 1)
            windows = torch.tensor(stream[:-1]).view(rows, -1)
            nexts = torch.tensor(stream[1:]).view(rows, -1)
            made[name] = Examples(Ragged.of(list(windows)), nexts)
        counts = torch.bincount(made["train"].targets.flatten(), minlength=self.outputs) + 1
        self.shares = (counts / counts.sum()).tolist()
        return made

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())

    def metrics(self) -> MetricCollection:
        return MetricCollection({"loss": CrossEntropy(), "perplexity": Perplexity()})

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.tensor(self.shares).log().expand(*batch.inputs.shape[:2], self.outputs)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs[:, -1].topk(top).indices.tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"shares": list(self.shares)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        shares = state.get("shares")
        if set(state) != {"shares"} or not isinstance(shares, list) or not all(isinstance(s, float) for s in shares):
            raise ValueError("the state must have shares, a list of numbers, and nothing else")
        self.shares = list(shares)


class StepAccuracy(Mean):
    """Over the steps that count."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets[:, : outputs.shape[1]]
        return (outputs.argmax(-1) == targets)[targets != IGNORED].double()


class Parity(Task):
    """Token ids 1 and 2: at each step but the first, has 2 come an odd number of times?

    Args:
        sequence_length: steps at most.
        ragged: whether rows have unequal lengths.
    """

    per_step = True
    sequence_length_means = "maximum"

    def __init__(self, sequence_length: int | None = None, ragged: bool = True) -> None:
        self.sequence_length, self.ragged = positive(sequence_length), ragged

    @property
    def monitor(self) -> str:
        return "accuracy"

    @property
    def outputs(self) -> int:
        return 2

    def splits(self) -> Mapping[str, Examples]:
        made = {}
        draw = random.Random(0)
        lengths = range(14, 19) if self.ragged else [16]
        rows = sorted({tuple(draw.choices([1, 2], k=draw.choice(lengths))) for _ in range(150)})
        draw.shuffle(rows)
        for name, part in zip(SPLITS, (rows[:90], rows[90:120], rows[120:]), strict=True):
            parts = [torch.tensor(row) for row in part]
            targets = torch.full((len(parts), max(map(len, parts))), IGNORED)
            for row, ids in enumerate(parts):
                targets[row, 1 : len(ids)] = ((ids - 1).cumsum(0) % 2)[1:]
            made[name] = Examples(Ragged.of(parts), targets)
        return made

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]]
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": StepAccuracy()})

    def blind_outputs(self, batch: Batch) -> Tensor:
        return torch.zeros(*batch.inputs.shape[:2], 2)

    def report(self, details: Mapping[str, Tensor], folder: Any) -> Report:
        (folder / "rows.svg").write_text("<svg/>", "utf-8")
        return Report({"rows": [{"length": 18, "accuracy": None}]}, ["rows.svg"], ["no row is longer than 18"])

    def sample_weights(self) -> Tensor:
        return torch.ones(90)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.argmax(-1).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise ValueError(f"parity has no state, but here is {', '.join(state)}")
