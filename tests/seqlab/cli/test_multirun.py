"""Sweeps from the command line: finished runs are skipped, others resumed; the ledger has their states."""

import json
import os
import signal
from pathlib import Path

import pytest

from seqlab.runs import run_folder
from seqlab.training.module import SequenceModule

QUICK = ("trainer.max_epochs=1", "cell.hidden_size=4", "logger=none", "trainer.progress=false", "data.batch_size=16")


@pytest.fixture
def sweep(cli, names_folder):
    return lambda *words: cli("-m", *QUICK, f"task.data_dir={names_folder}", *words)


def only_sweep():
    (folder,) = Path("runs/sweeps").iterdir()
    return folder


def states(cli, folder):
    return [run["state"] for run in json.loads(cli("status", str(folder), "--json").out)]


def test_the_same_sweep_is_resumed_in_its_folder(cli, sweep):
    first = sweep("cell=rnn,gru", "seed=0,1")
    assert first.code == 0, first.err
    assert "4 runs: 4 done" in first.out
    folder = only_sweep()
    assert len([path for path in folder.iterdir() if (path / "results.json").exists()]) == 4
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/results.json")}
    again = sweep("seed=0,1", "cell=rnn,gru", "logger=csv")  # in another order, with other curves
    assert again.code == 0
    assert again.out.count("was done before") == 4
    assert {path: path.stat().st_mtime_ns for path in only_sweep().glob("*/results.json")} == times
    assert set(states(cli, folder)) == {"done"}
    shown = cli("status", str(folder), "--all").out
    assert "cell=rnn" in shown
    records = [json.loads(path.read_text("utf-8")) for path in folder.glob("*/results.json")]
    linear = {run["linear"] for run in json.loads(cli("status", str(folder), "--json").out)}
    assert linear == {record["linear"]["valid"][record["best"]["monitor"]] for record in records}
    assert "linear" in shown
    assert first.out.count("(linear baseline ") == 4
    assert "trainer.max_epochs" not in shown  # the same in all
    more = sweep("cell=rnn", "seed=2")
    assert more.code == 0
    assert len(list(Path("runs/sweeps").iterdir())) == 2  # other words, another sweep


def test_a_folder_of_ones_own_may_have_any_name(cli, sweep, tmp_path):
    folder = tmp_path / "mine, and 'yours' = ours"
    assert sweep("seed=0", f"hydra.sweep.dir={folder}").code == 0
    assert states(cli, folder) == ["done"]
    assert "nothing is left" in cli("resume", str(folder)).out


def test_fresh_renames_the_earlier_sweep(sweep):
    sweep("seed=0,1")
    folder = only_sweep()
    before = {path.name: path.read_bytes() for path in folder.glob("*/results.json")}
    again = sweep("seed=0,1", "fresh=true")
    assert again.code == 0
    assert f"the earlier sweep is now {folder}.1" in again.err
    assert "was done before" not in again.out
    assert {path.name: path.read_bytes() for path in Path(f"{folder}.1").glob("*/results.json")} == before


def test_a_failed_run_stops_no_other_and_can_be_repeated(cli, names_folder, tmp_path):
    """The data folder is missing at first."""
    late = tmp_path / "late"
    words = ("-m", *QUICK, "seed=0,1", f"task.data_dir={names_folder},{late}")
    found = cli(*words)
    assert found.code == 1
    assert "4 runs: 2 done, 2 failed" in found.out
    assert "Traceback" not in found.err
    folder = only_sweep()
    shown = cli("status", str(folder))
    assert shown.code == 1
    assert "late" in shown.out
    assert states(cli, folder) == ["done", "failed", "done", "failed"]
    late.symlink_to(names_folder)
    assert cli("resume", str(folder), "--failed").code == 0
    assert states(cli, folder) == ["done"] * 4
    nothing = cli("resume", str(folder))
    assert (nothing.code, "nothing is left to do" in nothing.out) == (0, True)


def test_an_interrupted_sweep_resumes_its_run(cli, sweep, monkeypatch):
    """The weights of the interrupted run are those of an uninterrupted one."""
    step = SequenceModule.training_step
    steps = []

    def signalled(self, data, index):
        steps.append(index)
        if len(steps) == 15:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, data, index)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", signalled)
        cut = sweep("seed=0,1,2")
    assert cut.code == 75
    folder = only_sweep()
    assert f"stopped by SIGTERM; to resume: python -m seqlab resume {folder}" in cut.err
    assert states(cli, folder) == ["done", "stopped", "missing"]
    assert cli("resume", str(folder)).code == 0
    assert states(cli, folder) == ["done"] * 3
    cut_runs = {path.parent.name: run_folder.read_weights(path) for path in folder.glob("*/model.safetensors")}
    assert sweep("seed=0,1,2", "fresh=true").code == 0
    for path in folder.glob("*/model.safetensors"):
        whole = run_folder.read_weights(path)
        assert all(bool((value == cut_runs[path.parent.name][name]).all()) for name, value in whole.items())
