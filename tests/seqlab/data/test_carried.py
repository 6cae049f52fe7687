"""State carried along each stream of ordered examples, never across streams, splits or shuffled rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

import seqlab
from seqlab import (
    Batch,
    ClassificationTask,
    Corpus,
    Examples,
    GeneratedTask,
    Ragged,
    Recurrent,
    StatefulTask,
    UserError,
)
from seqlab.data.datamodule import SequenceData
from seqlab_cells.gru import GRU


class Before(StatefulTask, sequence_length_means="distance"):
    """Predict the token of the previous example, which only a carried state knows."""

    choices = 3

    def __init__(self, sequence_length: int = 3) -> None:
        self.sequence_length = sequence_length

    @property
    def monitor(self) -> str:
        return "accuracy"

    @property
    def outputs(self) -> int:
        return self.choices

    def splits(self) -> Mapping[str, Any]:
        sizes = {"train": 1025, "valid": 129, "test": 201, "further": 87}
        return {name: self._generate(size, seed) for seed, (name, size) in enumerate(sizes.items())}

    def _generate(self, size: int, seed: int) -> Examples:
        tokens = torch.randint(self.choices, (size + 1,), generator=Generator().manual_seed(seed))
        steps = torch.randint(1, self.sequence_length + 1, (size,), generator=Generator().manual_seed(seed + 10))
        inputs = Ragged((tokens[1:] + 1).repeat_interleave(steps), steps)
        return Examples(inputs, tokens[:-1])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def metrics(self) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(self.choices, average="micro")})

    def baseline_outputs(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch.targets), self.choices)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        return outputs.argmax(-1).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return


class Weighted(Before, ClassificationTask):
    def label_names(self) -> list[str]:
        return ["a", "b", "c"]

    def sample_weights(self) -> Tensor:
        return torch.ones(1025)


class Fresh(Before, GeneratedTask):
    fresh = True


class Mixed(Before):
    def splits(self) -> Mapping[str, Any]:
        return {**super().splits(), "test": Corpus(lambda: ["ab"], 2, "x")}


@pytest.fixture
def plugged(distribution: Any) -> None:
    """Install the tasks of this file."""
    names = {"before": "Before", "weighted": "Weighted", "new": "Fresh", "mixed": "Mixed"}
    distribution("order", "[seqlab.tasks]\n" + "".join(f"{n} = {__name__}:{c}\n" for n, c in names.items()))


def run(task: str, folder: Path, *words: str) -> seqlab.Result:
    quiet = ["trainer.progress=false", "logger=none", "trainer.threads=1"]
    return seqlab.run(seqlab.compose([f"task={task}", *words, *quiet]), folder)


def test_the_carried_state_is_that_of_one_pass_over_the_stream() -> None:
    """Against one pass over each stream's examples end to end."""
    task = Before()
    data = SequenceData(task, None, batch_size=5, eval_batch_size=4)
    data.prepare()
    torch.manual_seed(0)
    embedding, recurrent = torch.nn.Embedding(4, 3), Recurrent(GRU, 3, hidden_size=4, batch_first=True)
    loader = data.loader("valid")
    state, ends = None, []
    for batch in loader:
        _, state = recurrent(embedding(batch.inputs), state, batch.lengths)
        ends.append(state[0][0])
    assert loader.streams == 3  # the largest number up to 4 that divides 129
    inputs = data.encoded["valid"][0]
    for stream, values in enumerate(torch.split(inputs.values, inputs.lengths.view(3, 43).sum(1).tolist())):
        _, (whole,) = recurrent(embedding(values).unsqueeze(0))
        torch.testing.assert_close(ends[-1][stream], whole[0, 0])


@pytest.mark.usefixtures("plugged")
def test_a_network_learns_from_the_carried_state(tmp_path: Path) -> None:
    """With batches that do not divide the examples; without the state it could be right once in three times."""
    words = [
        "cell=gru",
        "cell.hidden_size=48",
        "task.sequence_length=1",
        "data.batch_size=20",
        "data.eval_batch_size=3",
        "trainer.max_epochs=5",
    ]
    result = run("before", tmp_path / "run", *words)
    assert result.metrics["accuracy"] > 0.9
    assert result.record["tables"]["further_tests"][0]["accuracy"] > 0.9  # a split beyond the test split


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("before", r"data\.eval_batch_size must be <= 64, got 1024: a StatefulTask .* valid has 129 examples"),
        ("weighted", "a StatefulTask needs examples in order, but sample_weights"),
        ("new", "a StatefulTask needs examples in order, but fresh"),
        ("mixed", "splits must all be Examples or all be Corpus, got train is Examples, valid is Examples, test is Co"),
    ],
)
def test_examples_without_order_are_rejected(task: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^task={task}: {message}"):
        run(task, tmp_path / "run")
