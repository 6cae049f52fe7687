"""Crashes: whole checkpoints, run folders that can be resumed, caches that two processes fill at once."""

import json
import os
import random
import time

import pytest
import torch
from safetensors.torch import load_file

from ...processes import FEW, QUICK, finish, run_records, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("SEQLAB_KILLS", "3"))
"""``make verify-long`` kills more often."""
SMALL = (*QUICK, "cell.hidden_size=16", "trainer.max_epochs=6")


def succeed(process):
    code, out = finish(process)
    assert code == 0, out


def test_a_run_that_is_killed_repeatedly_equals_an_uninterrupted_one(tmp_path):
    """It saves after each step, so that many kills come while a checkpoint is written."""
    overrides = [*SMALL, "trainer.checkpoint_minutes=0", "optimizer.lr=1e-3"]
    succeed(start(tmp_path, *overrides, "hydra.run.dir=whole"))
    draw, saved = random.Random(0), tmp_path / "cut" / "resume.ckpt"
    kills = 0
    while True:
        going_on = ["ckpt_path=last"] if saved.exists() else []
        process = start(tmp_path, *overrides, "hydra.run.dir=cut", *going_on)
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
        succeed(process)
        break
    assert kills
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(bool((value == whole[name]).all()) for name, value in cut.items())
    assert not list((tmp_path / "cut").glob(".resume.ckpt.*")), "partial files are deleted"


def test_two_processes_share_the_runs_of_a_sweep(tmp_path):
    overrides = ["-m", *QUICK, *FEW, "cell.hidden_size=16", "trainer.max_epochs=2", "seed=range(4)"]
    outs = [finish(process)[1] for process in [start(tmp_path, *overrides) for _ in range(2)]]
    records = run_records(tmp_path).values()
    assert [record["state"] for record in records] == ["done"] * 4
    assert len({record["pid"] for record in records}) <= 2
    assert all("Traceback" not in out for out in outs)
    trained = sum(out.count("  recurrent_lstm_") for out in outs)
    assert trained == 4, outs


def test_two_runs_fill_a_cold_cache_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    overrides = [*QUICK, "task=lm", "cell.hidden_size=8", "trainer.max_epochs=1", *FEW]
    processes = [start(tmp_path, *overrides, f"hydra.run.dir={name}") for name in ("one", "two")]
    for process in processes:
        succeed(process)
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert one["data"] == two["data"]
    assert one["metrics"] == two["metrics"]
