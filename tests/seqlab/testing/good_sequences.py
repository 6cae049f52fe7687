"""Tasks that are right and have an output at each step."""

import random
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab import Batch, Examples, GeneratedTask, LanguageTask, Ragged, Report, ReportingTask
from seqlab.contracts.task import at_length

from .good_tasks import IGNORED, SPLITS, Mean, MeanState, NoState, Small, positive, steps_of


class SquaredError(Mean):
    """Over the steps whose target is a number."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = (outputs - targets[:, : outputs.shape[1]]).square()
        return error[~error.isnan()]


class RunningSum(MeanState, Small, GeneratedTask):
    """Regression at each step of ragged features: the sum so far. NaN stands behind each row's last target."""

    per_step = True

    def __init__(self, sequence_length: int = 6) -> None:
        self.sequence_length = positive(sequence_length)

    monitor = "squared_error"
    mode = "min"
    outputs = 1

    def splits(self) -> Mapping[str, Examples]:
        made = {}
        for seed, (name, rows) in enumerate(zip(SPLITS, (120, 30, 30), strict=True)):
            made[name] = self._made(rows, torch.Generator().manual_seed(seed))
        self.mean = float(made["train"].targets.nanmean())
        self.change(made)
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

    measures = (("squared_error", SquaredError),)

    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.full((*batch.inputs.shape[:2], 1), self.mean)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        return metrics["squared_error"] < 0.01

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.squeeze(-1).tolist()


class FreshSum(RunningSum):
    """The same, drawn anew for every batch."""

    fresh = True

    def draw(self, count: int, seed: int, length: int | None = None) -> Examples:
        task = at_length(self, length)
        assert isinstance(task, FreshSum)
        return task._made(count, torch.Generator().manual_seed(1000 + seed))


class CrossEntropy(Mean):
    """In nats a step."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").double()


class Perplexity(CrossEntropy):
    """Its exponential, which is not the mean of the batches' own."""

    def compute(self) -> Tensor:
        return super().compute().exp()


class NextToken(Small, LanguageTask):
    """A tiny language model: windows of one stream of tokens, each carried on by the next."""

    tokens = 9

    def __init__(self, sequence_length: int = 16) -> None:
        self.sequence_length = positive(sequence_length)
        self.shares: list[float] = []

    monitor = "perplexity"
    mode = "min"

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
        self.change(made)
        return made

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())

    measures = (
        ("loss", CrossEntropy),
        ("perplexity", Perplexity),
    )

    def baseline_outputs(self, batch: Batch) -> Tensor:
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


class Parity(NoState, Small, ReportingTask):
    """Token ids 1 and 2: at each step but the first, has 2 come an odd number of times?

    Args:
        sequence_length: steps at most.
        ragged: whether rows have unequal lengths.
    """

    per_step = True

    def __init__(self, sequence_length: int | None = None, ragged: bool = True) -> None:
        self.sequence_length, self.ragged = positive(sequence_length), ragged

    monitor = "accuracy"
    outputs = 2

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
        self.change(made)
        return made

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets[:, : outputs.shape[1]]
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    measures = (("accuracy", StepAccuracy),)

    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.zeros(*batch.inputs.shape[:2], 2)

    def report(self, details: Mapping[str, Tensor], folder: Any) -> Report:
        (folder / "rows.svg").write_text("<svg/>", "utf-8")
        return Report({"rows": [{"length": 18, "accuracy": None}]}, ["rows.svg"], ["no row is longer than 18"])

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.argmax(-1).tolist()
