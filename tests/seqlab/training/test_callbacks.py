"""Training ends once validation solves the task, as often in a row as asked for, and not before."""

import pytest

import seqlab
from seqlab.io.csv_files import read_csv

WINDOW = [
    "task=first",
    "task.sequence_length=4",
    "task.examples=512",
    "task.held_out=100",
    "model=window",
    "model.embedding_size=8",
    "model.hidden_size=16",
    "optimizer.lr=0.02",
    "optimizer.schedule=constant",
    "trainer.progress=false",
    "trainer.max_epochs=12",
]


def scores(folder):
    return [
        float(row["valid/accuracy"]) for row in read_csv(folder / "curves" / "metrics.csv") if row["valid/accuracy"]
    ]


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_solved_task_ends_training(tmp_path, epochs):
    result = seqlab.run(seqlab.compose([*WINDOW, f"trainer.stop_when_solved={epochs}"]), tmp_path)
    found = scores(tmp_path)
    assert result.verdict == "solved"
    assert len(found) == result.cost["epochs"] < 12
    assert all(score >= 0.99 for score in found[-epochs:])
    assert len(found) == epochs or found[-epochs - 1] < 0.99


def test_an_unsolved_task_trains_to_the_end(tmp_path):
    too_short = [*WINDOW, "model.context=3", "trainer.max_epochs=2", "trainer.stop_when_solved=1"]
    assert seqlab.run(seqlab.compose(too_short), tmp_path).cost["epochs"] == 2


@pytest.mark.parametrize("wrong", ["-1", "true", "0.5"])
def test_a_wrong_count_is_one_line(tmp_path, wrong):
    with pytest.raises(seqlab.UserError, match=r"stop_when_solved must be .*>= 0, got"):
        seqlab.run(seqlab.compose([*WINDOW, f"trainer.stop_when_solved={wrong}"]), tmp_path)
