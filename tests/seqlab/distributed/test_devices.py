"""Several processes compute what one does: the same batches, divided; the same losses; the same metrics."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab import UserError
from seqlab.distributed.collectives import RankConsensus, all_gather
from seqlab.distributed.devices import RankInfo, rank_info
from seqlab.runs import run_folder

from ...processes import finish, start

CPU = {"devices": 1, "num_nodes": 1, "accelerator": "cpu"}
FAST = ["cell.hidden_size=12", "logger=csv", "trainer.progress=false", "trainer.threads=1", "trainer.max_epochs=3"]
SMALL = {
    "names": [*FAST, "task=names", "data.batch_size=33"],
    "lm": [*FAST, "task=lm", "task.sequence_length=10", "data.batch_size=5"],
}
TWO = ["trainer=ddp_cpu", *[word for word in FAST if word.startswith("trainer.")]]


def test_collectives_of_one_process():
    consensus = RankConsensus()
    assert [consensus.delayed_max(3), consensus.delayed_max(0), consensus.all_reduce_max(2)] == [3, 0, 2]
    assert all_gather("x") == ["x"]


def test_rank_of_a_process(monkeypatch):
    assert rank_info(CPU) == RankInfo()
    two = rank_info({**CPU, "devices": 2})
    assert (two.world_size, two.rank, two.by_srun) == (2, 0, False)
    with pytest.raises(UserError, match=r"trainer.num_nodes=2 needs SLURM: .*hydra.launcher.nodes=2"):
        rank_info({**CPU, "num_nodes": 2})
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NODEID": "1", "SLURM_LOCALID": "1", "SLURM_PROCID": "3"}
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    there = rank_info({**CPU, "devices": 2, "num_nodes": 2})
    assert (there.world_size, there.rank, there.local_rank, there.by_srun) == (4, 3, 1, True)
    with pytest.raises(UserError, match=r"srun started 4 tasks, but trainer.devices=1 on trainer.num_nodes=1 are 1"):
        rank_info(CPU)


@pytest.fixture
def configured(small_data):
    return lambda task, *overrides: seqlab.compose([*SMALL[task], small_data[task], *overrides])


def curve(folder):
    """Read the loss and the metrics of each epoch."""
    path = folder / "curves" / "metrics.csv"
    names, *rows = [line.split(",") for line in path.read_text().splitlines()]
    return [
        {name: float(value) for name, value in zip(names, row, strict=True) if value and name != "step"} for row in rows
    ]


WEIGHTED = ["task.balance=weights", "data.batch_size=32", "trainer.accumulate_grad_batches=2", "model.depth=2"]
CLUSTERS = [
    "task.adaptive=[4,9]",
    "cell.hidden_size=32",
    "optimizer=nt_asgd",
    "optimizer.averaging=1",
    "optimizer.lr=0.5",
    "trainer.precision=64-true",
]
THREE = ["data.eval_batch_size=3", "trainer.devices=3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("names", ["kernel=fused"]),
        pytest.param("names", [], marks=pytest.mark.long),
        pytest.param("lm", ["kernel=fused"], marks=pytest.mark.long),
        pytest.param("names", WEIGHTED, marks=pytest.mark.long),
        pytest.param("lm", CLUSTERS, marks=pytest.mark.long),
        pytest.param("lm", THREE, marks=pytest.mark.long),
        pytest.param("names", ["model=bow", "trainer.devices=3"], marks=pytest.mark.long),
        pytest.param("lm", ["model=ngram"], marks=pytest.mark.long),
    ],
)
def test_two_processes_train_as_one(configured, tmp_path, task, options):
    """The batches are the same, so that the curve is, too, but for the order in which floats are added up."""
    within = 1e-7 if "trainer.precision=64-true" in options else 1e-5  # metrics are sums in float32
    alone = [option for option in options if not option.startswith("trainer.devices")]
    one = seqlab.run(configured(task, "trainer=cpu", *FAST, *alone), tmp_path / "one")
    two = seqlab.run(configured(task, *TWO, *options), tmp_path / "two")
    assert two.cost["devices"] == (3 if "trainer.devices=3" in options else 2)
    for name, value in one.metrics.items():
        assert two.metrics[name] == pytest.approx(value, rel=within), name
    assert two.record["chance"]["test"] == pytest.approx(one.record["chance"]["test"], rel=1e-6)
    for here, there in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert there == pytest.approx(here, rel=within)
    for count in ("batches", "examples", "epochs"):
        assert two.cost[count] == one.cost[count]
    assert two.record["tables"].keys() == one.record["tables"].keys()
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    assert torch.get_num_threads() > 0
    assert not torch.distributed.is_initialized()


def command(*words):
    return [sys.executable, "-m", "seqlab", *words]


def child_of(pid):
    """Find the first process that another one started: rank 1, or a data worker."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def descendant(pid, depth):
    """Find the child of a child ...; ``None`` where there is none at present."""
    try:
        return pid if depth == 0 else descendant(child_of(pid), depth - 1)
    except (FileNotFoundError, IndexError):
        return None


def until(happens, seconds=60):
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.mark.slow
@pytest.mark.long  # tests/cluster stops two processes of a job by a signal, too
@pytest.mark.parametrize("signalled", ["all", "rank 1"])
def test_all_stop_after_the_same_step_and_resume_exactly(configured, names_folder, tmp_path, signalled):
    """With dropout, of which each process draws its own."""
    words = [*SMALL["lm"], *TWO, f"task.data={tmp_path / 'text.txt'}", "model.dropout=0.3", "model.depth=2"]
    words += ["data.workers=1", "trainer.checkpoint_minutes=0", "trainer.max_epochs=8", "trainer.early_stopping=null"]
    out = subprocess.run(command(*words, f"hydra.run.dir={tmp_path / 'whole'}"), capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        command(*words, f"hydra.run.dir={cut}"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: (cut / run_folder.RESUME).exists())
    if signalled == "all":
        os.killpg(process.pid, signal.SIGTERM)
    else:
        os.kill(child_of(process.pid), signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "stopped by SIGTERM; to resume" in errors
    assert not (cut / run_folder.RESULTS).exists()
    out = subprocess.run(command(*words, f"hydra.run.dir={cut}", "ckpt_path=last"), capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    one, other = (run_folder.read_weights(tmp_path / name / run_folder.MODEL) for name in ("whole", "cut"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    one, other = (json.loads((tmp_path / name / run_folder.RESULTS).read_text()) for name in ("whole", "cut"))
    assert one["metrics"] == other["metrics"]
    assert one["cost"]["examples"] == other["cost"]["examples"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "depth", "reason"),
    [
        (TWO, 1, "the process of rank 1 failed: it ended with -9"),
        (["trainer=cpu", "data.workers=1"], 1, "a process that builds batches ended, .*set fewer data.workers"),
    ],
    ids=["rank", "data worker"],
)
def test_a_process_that_dies_stops_the_run_with_a_reason(configured, tmp_path, options, depth, reason):
    words = [*SMALL["lm"], *options, f"task.data={tmp_path / 'text.txt'}", "trainer.max_epochs=500"]
    words += ["trainer.early_stopping=null", f"hydra.run.dir={tmp_path / 'run'}", "trainer.checkpoint_minutes=0"]
    process = start(tmp_path, *words)
    until(lambda: (tmp_path / "run" / run_folder.RESUME).exists())
    os.kill(until(lambda: descendant(process.pid, depth)), signal.SIGKILL)
    code, errors = finish(process)
    assert code == 1, errors
    assert re.search(reason, errors), errors
    assert "Traceback" not in errors
    torch.load(tmp_path / "run" / run_folder.RESUME, weights_only=True)


@pytest.mark.slow
@pytest.mark.long
def test_worker_ranks_end_with_rank_0(configured, tmp_path):
    words = [*SMALL["lm"], *TWO, f"task.data={tmp_path / 'text.txt'}", "trainer.max_epochs=500"]
    words += ["trainer.early_stopping=null", f"hydra.run.dir={tmp_path / 'run'}", "trainer.checkpoint_minutes=0"]
    process = subprocess.Popen(command(*words), stderr=subprocess.DEVNULL)
    until(lambda: (tmp_path / "run" / run_folder.RESUME).exists())
    child = child_of(process.pid)
    process.kill()
    process.wait()
    stat = Path(f"/proc/{child}/stat")
    until(lambda: not stat.exists() or stat.read_text().split()[2] == "Z", 20)


@pytest.mark.slow
def test_another_number_of_processes_resumes_between_epochs_but_not_within_one(configured, tmp_path):
    two = ["trainer.max_epochs=1"]
    first = seqlab.run(configured("lm", *TWO, *two), tmp_path / "run")
    assert first.cost["epochs"] == 1
    further = seqlab.run(configured("lm", "trainer=cpu", *FAST, "ckpt_path=last"), tmp_path / "run")
    assert further.cost["epochs"] == 3
    assert further.cost["examples"] == 3 * first.cost["examples"]
    checkpoint = torch.load(tmp_path / "run" / run_folder.RESUME, weights_only=True)
    assert len(checkpoint["processes"]) == 1
    checkpoint["processes"] = checkpoint["processes"] * 2
    checkpoint["loader"] = {"done": 3}
    torch.save(checkpoint, tmp_path / "run" / run_folder.RESUME)
    with pytest.raises(UserError, match=r"within an epoch by 2 processes.*trainer.devices=2, or ckpt_path=best"):
        seqlab.run(configured("lm", "trainer.max_epochs=4", "ckpt_path=last"), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_a_sweep_of_runs_on_two_devices(configured, names_folder, tmp_path, monkeypatch, launcher):
    """Each run has one folder, and a worker process does not start the sweep again."""
    monkeypatch.chdir(tmp_path)
    alone = seqlab.run(configured("names", "trainer=cpu", *FAST, "seed=1"), tmp_path / "alone")
    words = [*SMALL["names"], *TWO, f"task.data_dir={names_folder}", "seed=0,1", f"hydra/launcher={launcher}"]
    out = subprocess.run(command("-m", *words), capture_output=True, text=True)
    assert out.returncode == 0, out.stderr + out.stdout
    assert "2 runs: 2 done" in out.stdout
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/sweeps/*/*/results.json")]
    assert [result["cost"]["devices"] for result in results] == [2, 2]
    (again,) = [result for result in results if result["config"]["seed"] == 1]
    assert again["metrics"]["test"] == pytest.approx(alone.metrics, rel=1e-5)
