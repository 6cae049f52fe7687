"""What a power cut leaves: whole checkpoints, folders that can be gone on with, caches that two can fill at once."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("SEQLAB_KILLS", "5"))
"""``make verify-long`` kills more often."""
SMALL = ("cell.hidden_size=16", "logger=none", "trainer.progress=false", "trainer.threads=1", "trainer.max_epochs=8")


def start(folder, *words):
    command = [sys.executable, "-m", "seqlab", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process):
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0, out
    return out


def test_a_run_that_is_killed_again_and_again_is_the_uninterrupted_one(tmp_path):
    """It is saved after each step, so that many kills come while a checkpoint is written."""
    words = [*SMALL, "trainer.checkpoint_minutes=0", "optimizer.lr=1e-3"]
    ended(start(tmp_path, *words, "hydra.run.dir=whole"))
    draw, saved = random.Random(0), tmp_path / "cut" / "resume.ckpt"
    kills = 0
    while True:
        going_on = ["ckpt_path=last"] if saved.exists() else []
        process = start(tmp_path, *words, "hydra.run.dir=cut", *going_on)
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        while process.poll() is None and (saved.stat().st_mtime_ns if saved.exists() else 0) == before:
            time.sleep(0.01)  # until it trains
        time.sleep(draw.uniform(0, 1.0))
        if kills < KILLS and process.poll() is None:
            process.kill()
            process.communicate()
            kills += 1
            torch.load(saved, weights_only=True)  # the newest one is whole
            continue
        ended(process)
        break
    assert kills
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(bool((value == whole[name]).all()) for name, value in cut.items())
    assert not list((tmp_path / "cut").glob(".resume.ckpt.*")), "what a killed writer left is cleared away"


def test_two_of_the_same_sweep_share_the_work(tmp_path):
    words = ["-m", *SMALL, "seed=range(4)"]
    outs = [process.communicate(timeout=300)[0] for process in [start(tmp_path, *words) for _ in range(2)]]
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    pages = [json.loads(path.read_text()) for path in folder.glob("*/run.json")]
    assert [page["state"] for page in pages] == ["done"] * 4
    assert len({page["pid"] for page in pages}) <= 2
    assert all("Traceback" not in out for out in outs)
    trained = sum(out.count("  recurrent_lstm_") for out in outs)
    assert trained == 4, outs


def test_two_runs_fill_a_cold_cache_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    words = ["task=lm", "cell.hidden_size=8", "logger=none", "trainer.progress=false", "trainer.max_epochs=1"]
    words += ["trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
    processes = [start(tmp_path, *words, f"hydra.run.dir={name}") for name in ("one", "two")]
    for process in processes:
        ended(process)
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert one["data"] == two["data"]
    assert one["metrics"] == two["metrics"]
