"""One thread for a small model, all for a large one; waiting threads sleep."""

import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import seqlab
from seqlab.__main__ import main
from seqlab.distributed import devices as threads
from seqlab.distributed.devices import RankInfo, Threads, configured_threads, default_threads
from seqlab_cells.lstm import LSTM

QUICK = ["cell.hidden_size=8", "debug=limit", "trainer.max_epochs=1", "trainer.progress=false", "logger=none"]


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    """On a machine of four cores, whatever this one has."""
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def recurrent(hidden):
    """Make a network whose largest matrix but its embedding, which is larger, has 4 * hidden^2 numbers."""
    return nn.ModuleList([nn.Embedding(10**5, 16), seqlab.Recurrent(LSTM, 16, hidden_size=hidden)])


@pytest.mark.parametrize(
    ("model", "rows", "steps", "count"),
    [
        (recurrent(128), 64, 10**6, 1),  # 4 million multiplications a step, however many steps there are
        (recurrent(1250), 16, 1, 4),  # 16 * 4 * 1250^2 is the limit
        (recurrent(1249), 16, 1, 1),
        (nn.LSTM(16, 1250), 16, 1, 4),
        (nn.Linear(1000, 1000), 10, 9.9, 1),  # all steps are one product
        (nn.Linear(1000, 1000), 10, 10.0, 4),
        (nn.Conv1d(100, 1000, 10), 10, 10.0, 4),
        (nn.ParameterList([nn.Parameter(torch.ones(5))]), 10**9, 10.0, 1),
    ],
)
def test_a_model_gets_threads_by_its_largest_product(model, rows, steps, count):
    found = default_threads(model, rows, steps, RankInfo())
    assert found.number == count
    assert re.match("(small|large) model: [0-9,]+ multiplications at a time", found.reason)


def test_processes_of_a_run_share_the_cores():
    large = nn.Linear(1000, 1000)
    assert [default_threads(large, 10**3, 1, RankInfo(devices)).number for devices in (1, 2, 3, 8)] == [4, 2, 1, 1]
    assert default_threads(large, 1, 1, RankInfo(2), on_gpu=True) == Threads(2, "the model is on a GPU")


def test_the_config_comes_first_then_slurm(monkeypatch):
    assert configured_threads({"threads": None}, RankInfo(2)) is None
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert configured_threads({"threads": None}, RankInfo(2)) is None
    assert configured_threads({"threads": None}, RankInfo(2, by_srun=True)) == Threads(3, "SLURM_CPUS_PER_TASK")
    assert configured_threads({"threads": 7}, RankInfo(2, by_srun=True)) == Threads(7, "trainer.threads")


def test_a_run_records_its_threads_and_restores_those_of_the_process(tmp_path):
    """The small default is one thread, bit by bit; a large model would have all."""
    runs = {}
    for name, words in {"default": [], "one": ["trainer.threads=1"], "three": ["trainer.threads=3"]}.items():
        runs[name] = seqlab.run(seqlab.compose(["cell=gru", "task=names", *QUICK, *words]), tmp_path / name)
        assert torch.get_num_threads() == 4
    found = {name: result.record["compute"] for name, result in runs.items()}
    assert {name: one["threads"] for name, one in found.items()} == {"default": 1, "one": 1, "three": 3}
    assert found["default"]["threads_reason"].startswith("small model: ")
    assert found["three"]["threads_reason"] == "trainer.threads"
    assert runs["default"].record["files"]["model.safetensors"] == runs["one"].record["files"]["model.safetensors"]


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux")
@pytest.mark.slow
def test_waiting_threads_of_the_command_line_sleep():
    """As GNU OpenMP reports it when torch is loaded."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    words = [sys.executable, "-m", "seqlab", "data", "task=first", "task.sequence_length=0"]
    done = subprocess.run(words, env={**environment, "OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True)
    assert "GOMP_SPINCOUNT = '0'" in done.stderr


def test_the_users_wait_policy_is_kept(monkeypatch):
    monkeypatch.setenv("KMP_BLOCKTIME", "200")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setattr(sys, "argv", ["seqlab", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
