"""Sweeps on a real SLURM: each run is done once, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ..processes import FEW, QUICK, finish, run_records, start, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SMALL = (*QUICK, "cell.hidden_size=16")
SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=20")
EXAMPLE = Path(__file__).resolve().parents[2] / "plugins" / "examples" / "seqlab-ugrnn"
_STARTED = []


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    for process in _STARTED:
        if process.poll() is None:
            process.kill()
            process.communicate()
    _STARTED.clear()


def launch(folder, cluster, *arguments, **environment):
    _STARTED.append(start(folder, *arguments, **{**cluster.environment, **environment}))
    return _STARTED[-1]


def seqlab(folder, cluster, *arguments, **environment):
    return finish(launch(folder, cluster, *arguments, **environment), 800)


def sweep_of(folder):
    (found,) = [path for path in (folder / "runs" / "sweeps").iterdir() if path.suffix == ""]
    return found


def states(folder, cluster):
    _, out = seqlab(folder, cluster, "status", str(sweep_of(folder)), "--json")
    return Counter(run["state"] for run in json.loads(out))


def running(folder):
    return {name: record for name, record in run_records(folder).items() if record["state"] == "running"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the cell of another distribution."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, "--disable-pip-version-check", str(EXAMPLE)], check=True)
    return str(target)


def test_a_sweep_completes(cluster, site, tmp_path):
    """In several arrays, if it has more runs than an array may have; jobs find third-party cells as it does."""
    overrides = ["-m", *SMALL, *SLURM, *FEW, "cell=ugrnn,gru,rnn", "trainer.max_epochs=1"]
    overrides += ["hydra.launcher.array_size=2"]
    code, out = seqlab(tmp_path, cluster, *overrides, PYTHONPATH=site)
    assert code == 0, out
    assert "seqlab-ugrnn" in next(sweep_of(tmp_path).glob("recurrent_ugrnn_*/model.json")).read_text()
    assert "3 runs: 3 done" in out
    assert len({record["job"].partition("_")[0] for record in run_records(tmp_path).values()}) == 2
    submitted = len(list((sweep_of(tmp_path) / ".submitit").iterdir()))
    code, out = seqlab(tmp_path, cluster, *overrides, PYTHONPATH=site)
    assert code == 0
    assert "0 to submit" in out
    assert len(list((sweep_of(tmp_path) / ".submitit").iterdir())) == submitted


@pytest.mark.parametrize(  # of one process, tests/seqlab/distributed/test_signals.py has the same
    ("task", "tasks"), [*(pytest.param(task, 1, marks=pytest.mark.long) for task in ("names", "lm")), ("lm", 2)]
)
def test_a_job_told_to_stop_is_requeued_and_ends_bit_for_bit(cluster, tmp_path, task, tasks):
    """With carried state, two data workers, gradient accumulation, and two processes."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {n} of a text, and {n * n} after it\n" for n in range(1200)), "utf-8")
    data = ["task.sequence_length=50", "data.batch_size=8", f"task.data={text}"] if task == "lm" else []
    epochs = 3 if task == "lm" else 15  # an epoch of names is over in a second
    overrides = [*SMALL, f"task={task}", *data, f"trainer.max_epochs={epochs}", "model.dropout=0.2", "model.depth=2"]
    overrides += ["trainer.accelerator=cpu", f"trainer.devices={tasks}"]
    overrides += ["data.workers=2", "trainer.accumulate_grad_batches=4", "trainer.early_stopping=null"]
    process = launch(tmp_path, cluster, "-m", *overrides, *SLURM, f"hydra.launcher.tasks_per_node={tasks}", "seed=0")
    wait_for(lambda: list(tmp_path.glob("runs/sweeps/*/*/resume.ckpt")) or process.poll() is not None)
    (record,) = running(tmp_path).values()
    cluster.ask("scancel", "--signal=TERM", record["job"])
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0, out
    (name,) = run_records(tmp_path)
    folder = sweep_of(tmp_path) / name
    log = "".join(path.read_text() for path in (sweep_of(tmp_path) / ".submitit").glob("*/*.err"))
    assert "stopped by SIGTERM; to resume" in log
    code, out = seqlab(tmp_path, cluster, *overrides, "seed=0", "hydra.run.dir=whole")
    assert code == 0, out
    cut, whole = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "whole"))
    assert all(bool((value == whole[key]).all()) for key, value in cut.items())
    results = [json.loads((path / "results.json").read_text()) for path in (folder, tmp_path / "whole")]
    assert results[0]["metrics"] == results[1]["metrics"]


def test_resume_completes_a_sweep_after_kills(cluster, tmp_path):
    """A job is killed, a process dies, the node goes down and comes back: each run is done once.

    More runs wait than are killed, so that a requeued job does not start while its last step is still ending.
    """
    overrides = ["-m", *SMALL, *SLURM, "cell=rnn,gru,lstm", "seed=0,1", "trainer.max_epochs=4"]
    process = launch(tmp_path, cluster, *overrides)
    victims = []
    for kill in ("scancel", "process", "node"):
        name, record = wait_for(lambda: [item for item in running(tmp_path).items() if item[0] not in victims])[0]
        victims.append(name)
        if kill == "scancel":
            cluster.ask("scancel", "--signal=KILL", record["job"])
        elif kill == "process":
            os.kill(record["pid"], signal.SIGKILL)
        else:
            cluster.ask("scontrol", "update", f"NodeName={cluster.host}", "State=DOWN", "Reason=test")
            time.sleep(3)
            cluster.ask("scontrol", "update", f"NodeName={cluster.host}", "State=RESUME")
    out = process.communicate(timeout=600)[0]
    assert states(tmp_path, cluster)["done"] < 6 or "6 done" in out
    code, out = seqlab(tmp_path, cluster, "resume", str(sweep_of(tmp_path)))
    assert code == 0, out
    assert states(tmp_path, cluster) == {"done": 6}
    assert len(list(sweep_of(tmp_path).glob("*/results.json"))) == 6


def test_resume_adopts_jobs_that_outlive_the_submitter(cluster, tmp_path):
    overrides = ["-m", *SMALL, *SLURM, "seed=range(3)", "trainer.max_epochs=15"]
    process = launch(tmp_path, cluster, *overrides)
    wait_for(lambda: running(tmp_path))
    process.kill()
    process.communicate()
    waiting = states(tmp_path, cluster)
    assert waiting["queued"]
    assert waiting["queued"] + waiting["running"] + waiting["done"] == 3, waiting
    before = len(list((sweep_of(tmp_path) / ".submitit").iterdir()))
    code, out = seqlab(tmp_path, cluster, "resume", str(sweep_of(tmp_path)))
    assert code == 0, out
    assert "0 to submit" in out
    assert states(tmp_path, cluster) == {"done": 3}
    assert len(list((sweep_of(tmp_path) / ".submitit").iterdir())) == before


@pytest.mark.long
def test_two_processes_of_a_job_train_as_one(cluster, tmp_path):
    """SLURM starts both, in one run folder."""
    overrides = [*SMALL, "trainer.max_epochs=2", "seed=0"]
    two = ["hydra.launcher.tasks_per_node=2", "trainer=ddp_cpu"]
    code, out = seqlab(tmp_path, cluster, "-m", *overrides, *SLURM, *two)
    assert code == 0, out
    (there,) = tmp_path.glob("runs/sweeps/*/*/results.json")
    code, out = seqlab(tmp_path, cluster, *overrides, "hydra.run.dir=alone", "trainer=cpu")
    assert code == 0, out
    two, one = (json.loads(path.read_text()) for path in (there, tmp_path / "alone" / "results.json"))
    assert (two["cost"]["devices"], one["cost"]["devices"]) == (2, 1)
    assert two["cost"]["examples"] == one["cost"]["examples"]
    assert two["metrics"]["test"] == pytest.approx(one["metrics"]["test"], rel=1e-5)
    assert not list(there.parent.glob("error*"))
