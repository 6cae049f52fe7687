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


def test_joblib_shares_processes_and_gpus_and_a_failure_stops_no_other(tmp_path):
    overrides = ["-m", *QUICK, *FEW, *JOBLIB, "trainer.max_epochs=1", "seed=0,1,2", "cell.hidden_size=4,-4"]
    code, out = finish(start(tmp_path, *overrides, CUDA_VISIBLE_DEVICES="GPU-a, GPU-b"))
    assert code == 1, out
    assert "6 runs: 3 done, 3 failed" in out
    found = run_records(tmp_path).values()
    assert len({record["pid"] for record in found}) <= 2, "a process trains many runs"
    gpus = {record["pid"]: record["gpus"] for record in found}
    assert sorted(gpus.values()) == ["GPU-a", "GPU-b"][: len(gpus)]


def test_a_sweep_survives_the_death_of_a_process(tmp_path):
    overrides = ["-m", *QUICK, *JOBLIB, "trainer.max_epochs=6", "seed=range(3)", "cell.hidden_size=48"]
    process = start(tmp_path, *overrides)
    wait_for(lambda: running(tmp_path))
    os.kill(running(tmp_path)[0]["pid"], signal.SIGKILL)
    code, out = finish(process)
    assert code == 0, out
    assert "a process died" in out
    assert "3 runs: 3 done" in out


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
