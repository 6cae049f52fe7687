"""A run leaves the process as it found it, and computes in the default dtype that it finds."""

import os
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import seqlab
from seqlab import UserError
from seqlab.training.process_state import restored_process_state

QUICK = ["cell.hidden_size=8", "debug=limit", "trainer.max_epochs=1", "trainer.progress=false", "logger=none"]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def state():
    """Everything global that a run could change."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("PL_")}
    numbers = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())
    return torch.get_num_threads(), torch.get_default_dtype(), environment, numbers


def run(folder, *words):
    return seqlab.run(seqlab.compose(["cell=gru", "task=names", *QUICK, *words]), folder)


@pytest.mark.parametrize("words", [[], ["trainer.threads=2"], ["trainer.precision=64-true"]])
def test_a_run_changes_nothing_global(words, tmp_path):
    before = state()
    run(tmp_path / "run", *words)
    assert state() == before


def test_a_refused_run_changes_nothing_global(tmp_path):
    before = state()
    with pytest.raises(UserError):
        run(tmp_path / "run", "task.data_dir=nowhere", "trainer.threads=2")
    assert state() == before


@pytest.mark.usefixtures("double")
def test_a_default_of_float64_is_computed_in_and_recorded(tmp_path):
    result = run(tmp_path / "run")
    assert result.record["compute"]["dtype"] == "float64"
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float64}
    assert torch.get_default_dtype() == torch.float64
    assert seqlab.load(tmp_path / "run").predict(["Ann"])[0][0]["label"]


def test_float32_and_double_precision_are_recorded_as_they_are(tmp_path):
    assert run(tmp_path / "single").record["compute"]["dtype"] == "float32"
    assert run(tmp_path / "double", "trainer.precision=64-true").record["compute"]["dtype"] == "float64"


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_two_processes_compute_in_it_as_one_does(tmp_path):
    """A worker process starts with the default float32."""
    for name in ("cpu", "ddp_cpu"):
        run(tmp_path / name, f"trainer={name}")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("cpu", "ddp_cpu"))
    torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-12)


def test_the_default_dtype_comes_back_after_an_error():
    def changed():
        with restored_process_state():
            torch.set_default_dtype(torch.float64)
            raise KeyError

    with pytest.raises(KeyError):
        changed()
    assert torch.get_default_dtype() == torch.float32
