"""Launchers of this machine: no run stops another, each process has a GPU of its own, a signal loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUICK = ("logger=none", "trainer.progress=false", "trainer.threads=1")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def start(folder, *words, **environment):
    command = [sys.executable, "-W", "error::UserWarning", "-m", "seqlab", *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process):
    out = process.communicate(timeout=500)[0]
    assert "Traceback" not in out, out
    return process.returncode, out


def pages(folder):
    return [json.loads(path.read_text()) for path in folder.glob("runs/sweeps/*/*/run.json")]


def until(happens, seconds=120):
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def running(folder):
    """List the pages of runs that train: what is saved can be gone on with."""
    found = [path.parent for path in folder.glob("runs/sweeps/*/*/resume.ckpt")]
    pages = [json.loads((each / "run.json").read_text()) for each in found]
    return [page for page in pages if page["state"] == "running"]


def test_joblib_shares_processes_and_gpus_and_a_failure_stops_no_other(tmp_path):
    words = ["-m", *QUICK, *JOBLIB, "trainer.max_epochs=1", "seed=0,1,2", "cell.hidden_size=4,-4"]
    code, out = ended(start(tmp_path, *words, CUDA_VISIBLE_DEVICES="GPU-a, GPU-b"))
    assert code == 1, out
    assert "6 runs: 3 done, 3 failed" in out
    found = pages(tmp_path)
    assert len({page["pid"] for page in found}) <= 2, "a process does many runs"
    gpus = {page["pid"]: page["gpus"] for page in found}
    assert sorted(gpus.values()) == ["GPU-a", "GPU-b"][: len(gpus)]


def test_a_process_that_dies_ends_no_sweep(tmp_path):
    words = ["-m", *QUICK, *JOBLIB, "trainer.max_epochs=6", "seed=range(3)", "cell.hidden_size=48"]
    process = start(tmp_path, *words)
    until(lambda: running(tmp_path))
    os.kill(running(tmp_path)[0]["pid"], signal.SIGKILL)
    code, out = ended(process)
    assert code == 0, out
    assert "a process died" in out
    assert "3 runs: 3 done" in out


@pytest.mark.long
def test_a_signal_to_the_sweep_saves_the_runs_at_hand_and_begins_no_other(tmp_path):
    words = ["-m", *QUICK, *JOBLIB, "trainer.max_epochs=40", "trainer.early_stopping=null", "seed=range(6)"]
    process = start(tmp_path, *words)
    until(lambda: len(running(tmp_path)) == 2)
    process.terminate()
    code, out = ended(process)
    assert code == 75, out
    assert Counter(page["state"] for page in pages(tmp_path)) == {"stopped": 2}
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert out.count(f"stopped by SIGTERM; to resume: python -m seqlab resume {folder.relative_to(tmp_path)}") == 2


def test_each_process_of_submitit_has_a_gpu(tmp_path):
    words = ["-m", *QUICK, "hydra/launcher=submitit_local", "hydra.launcher.parallel=2", "trainer.max_epochs=1"]
    words += ["seed=0,1"]
    code, out = ended(start(tmp_path, *words, CUDA_VISIBLE_DEVICES="3,5", TMPDIR=str(tmp_path)))
    assert code == 0, out
    assert sorted(page["gpus"] for page in pages(tmp_path)) == ["3", "5"]
