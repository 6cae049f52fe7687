"""Local launchers: failures, GPUs, dying processes and signals."""

import json
import os
import signal
from collections import Counter

import pytest

from .. import processes
from ..processes import FEW, QUICK, run_records, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def start(folder, *overrides, **environment):
    return processes.start(folder, *overrides, python=("-W", "error::UserWarning"), **environment)


def finish(process):
    code, out = processes.finish(process)
    assert "Traceback" not in out, out
    return code, out


def running(folder):
    """Return the records of runs in training that have a checkpoint."""
    found = [path.parent for path in folder.glob("runs/sweeps/*/*/resume.ckpt")]
    return [record for each in found if (record := json.loads((each / "run.json").read_text()))["state"] == "running"]


def gpus(folder):
    """Return the GPU of each process that has trained or trains a run."""
    return {record["pid"]: record["gpus"] for record in run_records(folder).values()}


def test_joblib_shares_processes_and_gpus_and_survives_failures_and_a_death(tmp_path):
    """A run that fails stops no other; a process that dies takes its run along, which is resumed in another."""
    overrides = ["-m", *QUICK, *JOBLIB, "trainer.max_epochs=6", "seed=range(3)", "cell.hidden_size=48,-4"]
    process = start(tmp_path, *overrides, CUDA_VISIBLE_DEVICES="GPU-a, GPU-b")
    wait_for(lambda: running(tmp_path) and len(gpus(tmp_path)) == 2)
    before = gpus(tmp_path)
    os.kill(running(tmp_path)[0]["pid"], signal.SIGKILL)
    code, out = finish(process)
    assert code == 1, out
    assert "a process died" in out
    assert "6 runs: 3 done, 3 failed" in out
    after = {pid: gpu for pid, gpu in gpus(tmp_path).items() if pid not in before}
    assert 1 <= len(after) <= 2, "a process trains many runs"
    for each in (before, after):
        assert sorted(each.values()) == ["GPU-a", "GPU-b"][: len(each)]


@pytest.mark.long
def test_a_signal_saves_the_current_runs_and_starts_no_other(tmp_path):
    overrides = ["-m", *QUICK, *JOBLIB, "trainer.max_epochs=40", "trainer.early_stopping=null", "seed=range(6)"]
    process = start(tmp_path, *overrides)
    wait_for(lambda: len(running(tmp_path)) == 2)
    process.terminate()
    code, out = finish(process)
    assert code == 75, out
    assert Counter(record["state"] for record in run_records(tmp_path).values()) == {"stopped": 2}
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert out.count(f"stopped by SIGTERM; to go on: python -m seqlab resume {folder.relative_to(tmp_path)}") == 2


def test_each_process_of_submitit_has_a_gpu(tmp_path):
    overrides = ["-m", *QUICK, "hydra/launcher=submitit_local", "hydra.launcher.parallel=2", "trainer.max_epochs=1"]
    overrides += [*FEW, "seed=0,1"]
    code, out = finish(start(tmp_path, *overrides, CUDA_VISIBLE_DEVICES="3,5", TMPDIR=str(tmp_path)))
    assert code == 0, out
    assert sorted(record["gpus"] for record in run_records(tmp_path).values()) == ["3", "5"]
