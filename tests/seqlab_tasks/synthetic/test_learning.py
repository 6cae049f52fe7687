"""Small models learn the short distances, and a window learns exactly its own."""

import pytest

import seqlab

QUICK = [
    "trainer.progress=false",
    "trainer.threads=1",
    "trainer.early_stopping=null",
    "logger=none",
    "task.held_out=500",
]


def trained(folder, *overrides):
    return seqlab.run(seqlab.compose([*QUICK, *overrides]), folder)


def test_a_gru_solves_first_at_a_short_distance(tmp_path):
    words = ["task=first", "task.sequence_length=5", "task.choices=4", "cell=gru", "cell.hidden_size=16"]
    result = trained(tmp_path / "run", *words, "task.examples=4000", "trainer.max_epochs=4", "optimizer.lr=0.02")
    assert result.verdict == "solved"
    assert result.record["tables"]["bounds"][0]["chance"] == 0.25


@pytest.mark.parametrize(("length", "verdict"), [(8, "solved"), (9, "at chance")])
def test_a_window_solves_first_at_its_context_and_not_one_step_further(tmp_path, length, verdict):
    words = ["task=first", f"task.sequence_length={length}", "model=window", "model.context=8"]
    result = trained(tmp_path / "run", *words, "task.examples=6000", "trainer.max_epochs=2")
    assert result.verdict == verdict


@pytest.mark.slow
def test_a_gru_beats_chance_on_adding_over_20_steps(tmp_path):
    words = ["task=adding", "task.sequence_length=20", "cell=gru", "cell.hidden_size=32"]
    result = trained(tmp_path / "run", *words, "trainer.max_epochs=5", "optimizer.lr=0.01")
    assert result.metrics["mse"] < 0.05 < result.chance["mse"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["attention", "tcn"])
def test_the_opponents_solve_first(tmp_path, model):
    words = ["task=first", "task.sequence_length=20", f"model={model}", "trainer.max_epochs=3", "task.examples=6000"]
    result = trained(tmp_path / "run", *words, *(["model.depth=3"] if model == "tcn" else []))
    assert result.verdict == "solved"
