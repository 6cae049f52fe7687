"""Sweeps on a real Ray: processes that die, and what is left of a sweep whose processes were killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .. import processes
from ..processes import QUICK, wait_for

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
PACKAGES = ["hydra-ray-launcher==1.2.2", "ray", "msgpack"]
RUNS, KILLED = 24, 3

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Install Ray where no other test sees it, without the cloudpickle that its launcher asks for."""
    target = tmp_path_factory.mktemp("ray")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    done = subprocess.run(
        [*pip, "-c", str(CONSTRAINTS), "--target", str(target), *PACKAGES], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"Ray cannot be installed: {done.stderr[-200:]}")
    # Ray gives its processes a niceness of 15, at which they starve beside other tests.
    return {"PYTHONPATH": str(target), "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}


def kill_a_run(sweep, before):
    """Kill a process in the middle of a run; return the name of the run."""
    for path in sweep.glob("*/run.json"):
        record = json.loads(path.read_text())
        if path.parent.name in before or record["state"] != "running" or not (path.parent / "resume.ckpt").exists():
            continue
        os.kill(record["pid"], signal.SIGSTOP)
        if json.loads(path.read_text())["state"] == "running":  # it has not ended meanwhile
            os.kill(record["pid"], signal.SIGKILL)
            return path.parent.name
        os.kill(record["pid"], signal.SIGCONT)
    return None


def test_a_sweep_of_which_three_runs_were_killed_is_completed(environment, tmp_path):
    """Each run is done once, under its name and number."""
    sweep = tmp_path / "swept"
    where = ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "hydra.launcher.ray.remote.max_retries=0"]
    grid = ["task=names", "cell=gru,rnn", "cell.hidden_size=4,8,12", "seed=range(4)"]
    small = ["trainer.max_epochs=3", "trainer.limit_train_batches=10", "trainer.limit_val_batches=2"]
    process = processes.start(tmp_path, "-m", *grid, *small, *QUICK, *where, "hydra.sweep.dir=swept", **environment)
    killed = set()
    while len(killed) < KILLED:
        killed.add(wait_for(lambda: kill_a_run(sweep, killed), 300))
    code, out = processes.finish(process, 1200)
    assert code == 1, out
    assert "Traceback" not in out
    assert f"{RUNS} runs: {RUNS - KILLED} done, {KILLED} stopped" in out
    plan = [run["name"] for run in json.loads((sweep / "sweep.json").read_text())["runs"]]
    assert len(set(plan)) == RUNS
    before = {name: (sweep / name / "run.json").read_bytes() for name in plan}
    assert {name for name in plan if json.loads(before[name])["state"] != "done"} == killed

    code, out = processes.finish(processes.start(tmp_path, "resume", "swept", **environment), 600)
    assert code == 0, out
    assert f"{RUNS} runs: {RUNS} done" in out
    changed = {name for name in plan if (sweep / name / "run.json").read_bytes() != before[name]}
    assert changed == killed, "no other run was run again"
    numbers = [
        yaml.safe_load((sweep / name / ".hydra" / "hydra.yaml").read_text())["hydra"]["job"]["num"] for name in plan
    ]
    assert numbers == list(range(RUNS))
    table = processes.finish(processes.start(tmp_path, "status", "swept", "--all", "--json"))[1]
    rows = {row["name"]: row for row in json.loads(table)}
    assert list(rows) == plan
    assert all(0 <= row["objective"] <= 1 for row in rows.values())


def test_a_run_whose_process_dies_goes_on_in_another(environment, tmp_path):
    small = ["trainer.max_epochs=6", "trainer.limit_train_batches=10", "cell.hidden_size=8", "seed=0,1"]
    where = ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "hydra.sweep.dir=swept"]
    process = processes.start(tmp_path, "-m", "task=names", *small, *QUICK, *where, **environment)
    record = tmp_path / "swept" / wait_for(lambda: kill_a_run(tmp_path / "swept", ()), 300) / "run.json"
    killed = json.loads(record.read_text())["pid"]
    code, out = processes.finish(process, 600)
    assert code == 0, out
    assert "2 runs: 2 done" in out
    assert json.loads(record.read_text())["pid"] != killed


def test_a_signal_saves_the_runs(environment, tmp_path):
    small = ["trainer.max_epochs=400", "trainer.early_stopping=null", "cell.hidden_size=8", "seed=range(4)"]
    where = ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "hydra.sweep.dir=swept"]
    process = processes.start(tmp_path, "-m", "task=names", *small, *QUICK, *where, **environment)
    wait_for(lambda: len(list((tmp_path / "swept").glob("*/resume.ckpt"))) == 2, 300)
    process.terminate()
    code, out = processes.finish(process, 600)
    assert code == 75, out
    states = [json.loads(path.read_text())["state"] for path in (tmp_path / "swept").glob("*/run.json")]
    assert states == ["stopped", "stopped"]
