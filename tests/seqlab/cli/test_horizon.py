"""Searches: the horizon of a model that sees k steps is k; a stopped search resumes to the same result."""

import json
import os
import signal
from pathlib import Path

import pytest

from seqlab.training.module import SequenceModule
from seqlab.training.replicas.group import Group

from ... import processes

# A model that sees exactly the last `context` steps, on a task of which the first step is all that matters.
WINDOW = (
    "model=window",
    "model.embedding_size=4",
    "model.hidden_size=16",
    "task=first",
    "task.choices=3",
    "task.examples=512",
    "task.held_out=100",
    "trainer.max_epochs=8",
    "trainer.threads=1",
    "optimizer.schedule=constant",
    "logger=none",
    "hydra/sweeper=horizon",
    "hydra.sweeper.learning_rates=[0.02]",
)
LEAN = ("hydra.sweeper.seeds=1", "hydra.sweeper.confirm_seeds=0", "hydra.sweeper.check_budget=false")


def only_sweep():
    (folder,) = Path("runs/sweeps").iterdir()
    return folder


def horizon(folder):
    return json.loads((folder / "horizon.json").read_text())


def without_seconds(rows):
    trials = ("trials", "longer", "further")
    return [
        {**row, "seconds": None, **{name: [{**trial, "seconds": None} for trial in row[name]] for name in trials}}
        for row in rows
    ]


@pytest.mark.parametrize(
    "context", [8, pytest.param(20, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.long)]
)
def test_a_window_is_reported_at_its_width(cli, context):
    found = cli("-m", *WINDOW, *LEAN, f"model.context={context}")
    assert found.code == 0, found.err
    record = horizon(only_sweep())
    (row,) = record["rows"]
    assert (row["horizon"], row["lower"], row["upper"]) == (context, context, context + 1)
    assert record["finished"]
    assert row["learning_rate"] == 0.02
    assert record["runs"] == len(row["trials"]) == len({trial["run"] for trial in row["trials"]})
    for trial in row["trials"]:
        assert trial["solved"] is (trial["distance"] <= context)
        assert (only_sweep() / trial["run"] / "results.json").is_file()
        assert f"task.sequence_length={trial['distance']} " in trial["command"]
    assert f"{record['runs']} runs: {record['runs']} done" in found.out


def test_a_stopped_search_resumes_to_the_same_result(cli, monkeypatch):
    words = (
        "-m",
        *WINDOW,
        "model.context=3",
        "hydra.sweeper.start=2",
        "hydra.sweeper.seeds=1",
        "hydra.sweeper.confirm_seeds=1",
    )
    whole = cli(*words)
    assert whole.code == 0, whole.err
    folder = only_sweep()
    expected = horizon(folder)
    assert {trial["distance"] for trial in expected["rows"][0]["trials"]} == {2, 3, 4}
    assert expected["rows"][0]["budget_limited"] is False
    assert [trial["budget"] for trial in expected["rows"][0]["longer"]] == [2]
    assert "nothing is left to do" in cli("resume", str(folder)).out
    step, steps = SequenceModule.training_step, []

    def signalled(self, data, index):
        steps.append(index)
        if len(steps) == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, data, index)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", signalled)
        assert cli(*words, "fresh=true").code == 75
    assert not horizon(folder)["finished"]
    assert cli("resume", str(folder)).code == 0
    assert without_seconds(horizon(folder)["rows"]) == without_seconds(expected["rows"])
    again = cli(*words)
    assert "was done before" not in again.out  # nothing was launched
    assert horizon(folder)["runs"] == expected["runs"]


GROUPED = ("-m", *WINDOW, "model.context=3", "hydra.sweeper.start=2", "hydra.sweeper.seeds=2",
           "hydra.sweeper.confirm_seeds=0", "hydra.sweeper.check_budget=false", "trainer.accelerator=cpu")  # fmt: skip


def intervals(record):
    return [[row[key] for key in ("horizon", "lower", "upper", "learning_rate", "finished")] for row in record["rows"]]


def outcomes(record):
    return {trial["run"]: trial["solved"] for row in record["rows"] for trial in row["trials"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_seeds_trained_together_give_the_intervals_of_seeds_trained_one_by_one(cli):
    """A stopped search of groups resumes to the same ones, too."""
    found = cli(*GROUPED)
    assert found.code == 0, found.err
    expected = horizon(only_sweep())
    assert intervals(expected) == [[3, 3, 4, 0.02, True]]
    words = (*GROUPED, "hydra.sweeper.group_replicas=true", "hydra.sweep.dir=grouped")
    count, step = iter(range(10**6)), Group._step

    def signalled(self, *given):
        if next(count) == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Group, "_step", signalled)
        assert cli(*words).code == 75
    assert "stopped" in cli("status", "grouped").out
    assert cli("resume", "grouped").code == 0
    record = horizon(Path("grouped"))
    assert intervals(record) == intervals(expected)
    assert outcomes(record) == outcomes(expected)
    costs = [json.loads((Path("grouped") / run / "results.json").read_text())["cost"] for run in outcomes(record)]
    assert {cost["replicas"] for cost in costs} == {2}
    assert "nothing is left to do" in cli("resume", "grouped").out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_search_of_groups_resumes_to_the_same_intervals(cli):
    words = (*GROUPED, "hydra.sweeper.group_replicas=true", "trainer.checkpoint_minutes=0")
    process = processes.start(Path.cwd(), *words)
    processes.wait_for(lambda: list(Path().glob("runs/sweeps/*/*/resume.ckpt")))
    process.kill()
    processes.finish(process)
    assert cli("resume", str(only_sweep())).code == 0
    assert intervals(horizon(only_sweep())) == [[3, 3, 4, 0.02, True]]


def test_both_protocols_find_the_width_of_a_window(cli):
    """Its curriculum 2, 3, 5 ends at 3, and what it learned at 3 steps it cannot do at 6."""
    words = ("-m", *WINDOW, *LEAN, "model.context=3", "hydra.sweeper.start=2", "hydra.sweeper.max_distance=5")
    found = cli(*words, "hydra.sweeper.protocols=[fixed,curriculum]", "task.eval_multiples=[2]")
    assert found.code == 0, found.err
    record = horizon(only_sweep())
    fixed, curriculum = record["rows"]
    assert [row["protocol"] for row in record["rows"]] == ["fixed", "curriculum"]
    assert [row["horizon"] for row in record["rows"]] == [row["generalises"] for row in record["rows"]] == [3, 3]
    assert (fixed["lower"], fixed["upper"]) == (3, 4)
    assert (curriculum["lower"], curriculum["upper"]) == (3, 3)
    assert all(row["steps"] > 0 and row["seconds"] > 0 for row in record["rows"])
    assert "first, window, curriculum: " in found.out
    report = (only_sweep() / "report" / "report.md").read_text()
    sentence = "On first, steps solved when trained at one length and trained on lengths that grow: window 3 and 3."
    assert sentence in report
    assert "figures/reach.svg" in report
    assert len((only_sweep() / "report" / "horizons.csv").read_text().splitlines()) == 3
    again = cli("resume", str(only_sweep()))
    assert "nothing is left to do" in again.out
    assert horizon(only_sweep()) == record
