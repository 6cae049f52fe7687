"""Search from end to end: killed anywhere it goes on, and the test split is scored by the chosen models alone."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

import seqlab
from seqlab.runs.run_folder import RESULTS
from seqlab.sweeps.plan import run_key

from ....processes import finish, start, wait_for

optuna = pytest.importorskip("optuna")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRIALS = 6


@pytest.fixture
def search(names_folder, tmp_path):
    """Start the command on three invented languages."""
    fixed = ["cell.hidden_size=8", "model.embedding_size=8", "data.batch_size=16", "trainer.max_epochs=6"]
    words = ["task=names", f"task.data_dir={names_folder}", *fixed, "model.depth=1", "trainer.threads=1"]

    def begin(*further):
        arguments = ["--trials", str(TRIALS), "--processes", "2", "--out", "found", *further]
        return start(tmp_path, "tune", *words, *arguments)

    return begin


def trials(folder):
    """Read the trials from Optuna's storage, with nothing of seqlab."""
    storage = f"sqlite:///{folder / 'found' / 'study.db'}"
    return optuna.load_study(study_name="tune", storage=storage).get_trials()


def processes(parent):
    """Return the ids of the processes that a command started to train."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status, line = (path / "stat").read_text(), (path / "cmdline").read_text()
        except OSError:
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent and "spawn_main" in line:
            found.append(int(path.name))
    return found


def training(folder):
    """Return the run folders that have a checkpoint and no result."""
    return [path.parent for path in folder.glob("found/*/resume.ckpt") if not (path.parent / RESULTS).exists()]


def test_killed_anywhere_it_ends_with_the_same_trials(search, tmp_path):
    """SIGKILL of a process while it trains, then of the parent; no trial is lost or done twice."""
    process = search()
    wait_for(lambda: training(tmp_path))
    victims = wait_for(lambda: processes(process.pid))
    os.kill(victims[0], signal.SIGKILL)
    wait_for(lambda: len(training(tmp_path)) >= 2)
    process.kill()
    process.communicate()
    before = {trial.number: trial for trial in trials(tmp_path)}
    code, out = finish(search())
    assert code == 0, out
    after = trials(tmp_path)
    assert len(after) == TRIALS
    assert {trial.state.name for trial in after} <= {"COMPLETE", "PRUNED"}
    for number, trial in before.items():
        assert after[number].params.items() >= trial.params.items()
        if trial.state.is_finished():
            assert after[number].datetime_complete == trial.datetime_complete, "done once"
    _check_results(tmp_path, after, out)
    began = time.monotonic()
    code, again = finish(search())
    assert code == 0
    assert len(trials(tmp_path)) == TRIALS
    assert again.splitlines()[-1] == out.splitlines()[-1]
    assert time.monotonic() - began < 120


def _check_results(folder, after, out):
    record = json.loads((folder / "found" / "tune.json").read_text("utf-8"))
    best = max(
        (trial for trial in after if trial.state.name == "COMPLETE"), key=lambda trial: (trial.value, -trial.number)
    )
    models = {each["title"]: each for each in record["models"]}
    assert models["winner"]["trial"] == best.number
    scored = {path.parent.name for path in (folder / "found").glob("*/results.json")}
    assert scored == {each["run"] for each in models.values()}, "the test split is scored by these alone"
    assert len(list((folder / "found").glob("*/predictions.safetensors"))) == len(scored)
    found = json.loads((folder / "found" / models["winner"]["run"] / RESULTS).read_text("utf-8"))
    assert found["metrics"]["valid"]["macro_f1"] == best.value
    low, high = models["winner"]["intervals"]["macro_f1"]
    assert low <= models["winner"]["test"]["macro_f1"] <= high
    assert out.splitlines()[-1].endswith(record["verdict"])
    assert "trial" in (folder / "found" / "report" / "report.html").read_text("utf-8")
    GlobalHydra.instance().clear()
    loaded = seqlab.compose([f"hydra.searchpath=[file://{folder / 'found' / 'config'}]", "experiment=tuned"])
    assert models["winner"]["run"].endswith(run_key(loaded)), "the config file trains the winner"
