"""Checkpoints that wait in memory: the same files as those written after each epoch."""

import pytest
import torch
from torch.utils._pytree import tree_flatten

import seqlab
from seqlab.runs.run_folder import BEST, RESUME
from seqlab.training import checkpoint

from ..resumable import FAST, InterruptedRunError, checkpoint_of, interrupted, same, weights_of

WORDS = [*FAST, "optimizer.lr=0.3", "trainer.max_epochs=4", "cell.hidden_size=8"]  # the best epoch is not the last


def saved(path):
    """Return the values of a checkpoint without what the clock says."""
    found = torch.load(path, weights_only=True)
    found["callbacks"]["Cost"].pop("seconds")
    found["callbacks"]["TimeBudget"].pop("seconds")
    for state in found["callbacks"]["RunCheckpoint"]["rng"]:
        del state["python"]  # the shape checks of the tests draw from it
    return tree_flatten(found)


def assert_same(one, other):
    for name in (RESUME, BEST):
        (a, shape), (b, same_shape) = saved(one / name), saved(other / name)
        assert shape == same_shape
        assert all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))
    assert same(weights_of(one), weights_of(other))


@pytest.fixture
def written(monkeypatch):
    """Count the checkpoints that are written."""
    files, save = [], torch.save
    monkeypatch.setattr(torch, "save", lambda value, file: files.append(file) or save(value, file))
    return files


def test_files_are_those_of_a_run_that_writes_each_checkpoint(names_folder, tmp_path, monkeypatch, written):
    config = seqlab.compose([*WORDS, f"task.data_dir={names_folder}"])
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_PAUSE", 0)
        result = seqlab.run(config, tmp_path / "each")
    assert result.record["best"]["epoch"] < 3
    assert len(written) == 4
    monkeypatch.setattr(checkpoint, "_PAUSE", 1e9)
    seqlab.run(config, tmp_path / "held")
    assert len(written) <= 4 + 3, "the first, the last and the best"
    assert_same(tmp_path / "each", tmp_path / "held")


@pytest.mark.parametrize("epoch", [2, 3])
def test_an_error_writes_what_waits(names_folder, tmp_path, monkeypatch, epoch):
    """A run that fails resumes from its last epoch, with the best weights so far."""
    config = seqlab.compose([*WORDS, f"task.data_dir={names_folder}"])
    for name, pause in (("each", 0), ("held", 1e9)):
        monkeypatch.setattr(checkpoint, "_PAUSE", pause)
        with interrupted(epoch, 0):
            seqlab.run(config, tmp_path / name)
    assert_same(tmp_path / "each", tmp_path / "held")


def test_the_weights_are_those_of_the_best_epoch_of_the_checkpoint_where_taking_one_fails(
    names_folder, tmp_path, monkeypatch
):
    """The best epoch waits, and the state of a later, better one cannot be taken."""
    config = seqlab.compose([*FAST, "trainer.max_epochs=6", f"task.data_dir={names_folder}"])  # each epoch is better
    save = checkpoint.RunCheckpoint.on_save_checkpoint

    def failing(self, trainer, *given):
        if trainer.current_epoch == 3:
            raise InterruptedRunError
        save(self, trainer, *given)

    monkeypatch.setattr(checkpoint.RunCheckpoint, "on_save_checkpoint", failing)
    monkeypatch.setattr(checkpoint, "_PAUSE", 1e9)
    with pytest.raises(InterruptedRunError):
        seqlab.run(config, tmp_path / "run")
    saved = checkpoint_of(tmp_path / "run")
    assert saved["callbacks"]["RunCheckpoint"]["best_epoch"] == 2
    weights = {name: saved["state_dict"][f"model.{name}"] for name in weights_of(tmp_path / "run")}
    assert same(weights, weights_of(tmp_path / "run"))
