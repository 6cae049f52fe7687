"""The compiled scan against the loop: outputs, states and every gradient; one graph for every batch and length."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqlab import Cell, Recurrent
from seqlab.recurrence.graphs import assume_constant_result
from seqlab_cells.gru import GRU

PROGRAM = Path(__file__).with_name("compiled_program.py")


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "case",
    [
        "refused",
        *(
            pytest.param(case, marks=pytest.mark.long)
            for case in ("bidirectional", "gru", "lstm", "matrix", "projected", "delayed", "counting")
        ),
    ],
)
def test_compiled_equals_the_loop(case):
    """In a process of its own, without shape checks: the compiler cannot see through them."""
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), case],
        env=environment,
        capture_output=True,
        text=True,
        timeout=270,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_ragged_epoch_compiles_three_graphs(tmp_path):
    """The scan and its derivative for training, and the scan for evaluation; testing adds none."""
    folder, data = tmp_path / "run", tmp_path / "names"
    data.mkdir()
    for vowel in "aeo":
        rows = [vowel * length + end for length in range(1, 9) for end in "bdklm"]
        (data / f"{vowel}.txt").write_text("\n".join(rows), "utf-8")
    command = [sys.executable, "-W", "ignore", "-m", "seqlab", "cell=gru", "task=names", "kernel=compiled"]
    command += [f"task.data_dir={data}", "data.batch_size=16", "cell.hidden_size=8", "trainer.max_epochs=2"]
    command += ["logger=none", f"hydra.run.dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=270)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((folder / "results.json").read_text())
    assert record["cost"]["compilations"] == 3
    assert record["cost"]["compile_seconds"] > 0
    assert "the loop runs instead" not in done.stdout + done.stderr


class Noisy(GRU):
    def step(self, x, state):
        y, new = super().step(x, state)
        return y + torch.rand_like(y), new


class Remembering(GRU):
    def __init__(self, input_size, hidden_size=4):
        super().__init__(input_size, hidden_size)
        self.register_buffer("steps", torch.zeros(()))

    def step(self, x, state):
        self.steps.add_(1)
        return super().step(x, state)


class Mixing(GRU):
    def step(self, x, state):
        y, new = super().step(x, state)
        return y - y.mean(0, keepdim=True), new


@pytest.mark.parametrize(
    ("cell", "why"),
    [(Noisy, "draws random numbers"), (Remembering, "changes a buffer"), (Mixing, "mixes the rows of a batch")],
)
def test_what_cannot_be_computed_again_is_refused_with_one_warning(cell: type[Cell], why: str, caplog):
    net = Recurrent(cell, 3, hidden_size=4, kernel="compiled")
    with caplog.at_level(logging.WARNING):
        for seed in (1, 1):
            torch.manual_seed(seed)
            y, _ = net(torch.randn(5, 2, 3))
    assert [why in record.message for record in caplog.records] == [True]
    net.kernel = "loop"
    torch.manual_seed(1)
    torch.testing.assert_close(net(torch.randn(5, 2, 3))[0], y)  # trying it drew nothing and changed nothing


def test_dropped_weights_go_to_the_loop(caplog):
    net = Recurrent(GRU, 3, hidden_size=4, kernel="compiled", weight_drop=0.5)
    with caplog.at_level(logging.WARNING):
        for training in (True, False):
            net.train(training)(torch.randn(5, 2, 3))
    assert ["weights are computed from others" in record.message for record in caplog.records] == [True]


def test_a_transform_goes_to_the_loop():
    net = Recurrent(GRU, 3, hidden_size=4, kernel="compiled")
    x = torch.randn(7, 5, 2, 3)
    together = torch.func.vmap(lambda each: net(each)[0])(x)
    assert net.choice is not None
    assert "no plain numbers" in net.choice.reason
    net.kernel = "loop"
    torch.testing.assert_close(together[3], net(x[3])[0])


def test_nothing_to_scan_goes_to_the_loop(caplog):
    with caplog.at_level(logging.WARNING):
        net = Recurrent(GRU, 3, hidden_size=4, kernel="compiled")
        y, _ = net(torch.randn(0, 2, 3))
    assert y.shape == (0, 2, 4)
    assert net.choice.kernel.name == "loop"
    assert "nothing to scan" in net.choice.reason


def test_a_constant_is_marked_as_torch_marks_it():
    def ours() -> None: ...

    def theirs() -> None: ...

    assert vars(assume_constant_result(ours)) == vars(torch.compiler.assume_constant_result(theirs))
