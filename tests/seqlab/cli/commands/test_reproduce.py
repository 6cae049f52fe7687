"""``reproduce``: runs of a recipe are a sweep; its table compares them with published figures."""

import json
from pathlib import Path

import pytest

MINE = """
title: recall the first of two
source: ours, 2026
metric: accuracy
mode: max
seeds: 2
words: [task=first, task.sequence_length=2, task.choices=2, task.examples=640, task.held_out=100, optimizer.lr=0.02,
  cell.hidden_size=8, trainer.max_epochs=2, trainer.threads=1, logger=none, trainer.progress=false, kernel=loop]
quick: [trainer.max_epochs=1, trainer.limit_train_batches=1]
rows:
  - {label: gru, words: [cell=gru], theirs: 1.0}
  - {label: the rnn, words: [cell=rnn], theirs: 0.5, at_most: true}
"""


@pytest.fixture
def mine(cli):
    Path("mine.yaml").write_text(MINE)
    return lambda *words: cli("reproduce", "mine.yaml", *words)


def test_runs_are_kept_and_judged(mine):
    done = mine("--only", "gru")
    assert done.code == 0, done.err
    (found,) = Path("runs/reproduce/mine").glob("gru_*")
    record = json.loads(Path("runs/reproduce/mine/reproduced.json").read_text())
    (row,) = record["rows"]
    results = [json.loads(path.read_text()) for path in found.glob("*/results.json")]
    assert sorted(row["ours"]) == sorted(result["metrics"]["test"]["accuracy"] for result in results)
    assert {result["config"]["seed"] for result in results} == {0, 1}
    assert row["verdict"] == ("reached" if sum(row["ours"]) / 2 >= 0.9 else "not reached")
    assert row["verdict"] in done.out
    assert "smaller" not in done.out
    times = {path: path.stat().st_mtime_ns for path in found.glob("*/results.json")}
    more = mine("--only", "gru", "--seeds", "3")
    assert more.code == 0
    assert more.out.count("was done before") == 2
    assert len(list(found.glob("*/results.json"))) == 3
    assert times.items() <= {path: path.stat().st_mtime_ns for path in found.glob("*/results.json")}.items()
    looked = mine("--look")
    assert looked.code == 1  # the other row was not run
    assert "not run" in looked.out
    other = mine("--only", "gru", "--look", "seed=7")
    assert "not run" in other.out
    assert "0 of 2" in other.out
    assert "0 of 5" in mine("--only", "gru", "--look", "--seeds", "5", "seed=7").out
    several = mine("--only", "gru", "cell.hidden_size=4,8")
    assert (several.code, "cell.hidden_size must have one value" in several.err) == (1, True)


def test_seeds_are_counted_from_the_one_that_is_given(mine):
    assert mine("--quick", "--only", "gru", "--seeds", "2", "seed=7").code == 0
    records = [json.loads(path.read_text()) for path in Path("runs/reproduce/mine").glob("*/*/results.json")]
    assert sorted(record["config"]["seed"] for record in records) == [7, 8]


def test_a_quick_run_is_not_judged(mine):
    done = mine("--quick", "--only", "the rnn")
    assert done.code == 0, done.err
    assert "quick run" in done.out
    (row,) = json.loads(Path("runs/reproduce/mine/tried.json").read_text())["rows"]
    assert row["label"] == "the rnn"
    assert len(row["ours"]) == 1
    assert not Path("runs/reproduce/mine/reproduced.json").exists()


def test_a_row_that_fails_leaves_the_others(mine):
    done = mine("--seeds", "1", "task.choices=1")
    assert done.code == 1
    assert "choices must be >= 2 and <= 65536, got 1" in done.err
    assert "not run" in done.out
    assert "Traceback" not in done.err


def test_without_a_recipe_there_is_a_list(cli):
    done = cli("reproduce")
    assert done.code == 0
    assert "tcn/adding600" in done.out


@pytest.mark.long
def test_copying_is_no_better_than_the_baseline_as_in_the_paper(cli):
    """The GRU of a recipe with the paper's length and fewer steps scores as a model that knows the time step alone."""
    short = [
        "trainer.max_epochs=1",
        "task.examples=6400",
        "task.held_out=64",
        "optimizer.lr=0.005",
        "trainer.threads=1",
    ]
    done = cli("reproduce", "tcn/copying1000", "--only", "gru", "--seeds", "1", *short, "trainer.progress=false")
    assert done.code == 0, done.err
    (row,) = json.loads(Path("runs/reproduce/tcn/copying1000/reproduced.json").read_text())["rows"]
    assert row["verdict"] == "reached"
    assert 0.018 < row["ours"][0] < 0.0217
    assert row["parameters"] == pytest.approx(16_000, rel=0.03)
