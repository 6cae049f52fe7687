"""A run of each task of texts, exported: the same outputs at 1, 7 and 500 steps and 1, 3 and 64 rows."""

from pathlib import Path

import pytest
import torch

import seqlab
from seqlab.export.compare import BATCHES, LENGTHS
from seqlab.export.folder import export

from .test_formats import exported, model

TINY = [
    "cell.hidden_size=6", "model.depth=2", "trainer.max_epochs=1", "trainer.limit_train_batches=4", "logger=none",
    "trainer.progress=false", "trainer.threads=1", "trainer.limit_val_batches=2", "trainer.limit_test_batches=2",
]  # fmt: skip
TASKS = {
    "names": ["cell=gru", "model.bidirectional=true"],
    "textclf": ["cell=lstm", "model.bidirectional=true"],
    "lm": ["cell=rnn", "task.sequence_length=8", "task.data=text.txt"],
}


def test_what_is_compared_is_what_is_promised():
    assert (LENGTHS, BATCHES) == ((1, 7, 500), (1, 3, 64))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_each_task(task, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    Path("text.txt").write_text("the cat sat on the mat and saw a rat\n" * 300, "utf-8")
    seqlab.run(seqlab.compose([f"task={task}", *TASKS[task], *TINY]), "run")
    _, found = export(Path("run"), form)
    assert found.batches == 9
    assert all(row.difference <= row.allowed <= 1e-4 for row in found.rows)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
@pytest.mark.parametrize(
    "options", [{}, {"per_step": True, "bidirectional": False}], ids=["two directions", "per step"]
)
def test_a_strangers_cell_in_two_layers(ugrnn, options, form, tmp_path):
    torch.manual_seed(0)
    exported(model(lambda size: ugrnn(size, 7), **options), form, tmp_path)
