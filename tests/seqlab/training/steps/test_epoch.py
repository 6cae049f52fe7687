"""The loop over the batches of an epoch: the same bits as Lightning's, and Lightning's where a step is not plain."""

from dataclasses import dataclass

import pytest
import pytorch_lightning as pl

import seqlab
from seqlab.training import session
from seqlab.training.checkpoint import StepReachedError
from seqlab.training.steps.epoch import EpochLoop

from ...resumable import FAST, checkpoint_of, last, same, weights_of

RUN = [*FAST, "trainer.max_epochs=2", "data.batch_size=16", "logger=csv"]
CASES = {
    "plain": [],
    "schedule": ["optimizer.schedule=cosine", "optimizer.warmup=0.2", "model.dropout=0.3", "model.depth=2"],
    "without clipping": ["trainer.gradient_clip_val=null", "optimizer=sgd", "optimizer.lr=0.1"],
    "steps end within an epoch": ["trainer.max_steps=5"],
    "averaging": ["optimizer=sgd", "optimizer.lr=1", "optimizer.averaging=1"],
}


@pytest.fixture
def lightning(monkeypatch):
    """Train by Lightning's own loop."""

    def use():
        monkeypatch.setattr(session, "use_epoch_loop", lambda trainer: None)

    return use


@pytest.fixture
def plain_steps(monkeypatch):
    """Count the steps that Lightning's loop did not do."""
    steps, one = [], EpochLoop._step
    monkeypatch.setattr(EpochLoop, "_step", lambda self, batch, index: steps.append(index) or one(self, batch, index))
    return steps


def configured(folder, *overrides):
    return seqlab.compose([*RUN, f"task.data_dir={folder}", *overrides])


def without_seconds(value):
    """Drop what the clock says."""
    if isinstance(value, dict):
        return {key: without_seconds(each) for key, each in value.items() if key != "seconds"}
    return value


@pytest.mark.parametrize("case", CASES)
def test_weights_curves_and_counters_are_those_of_lightning(names_folder, tmp_path, lightning, plain_steps, case):
    config = configured(names_folder, *CASES[case])
    seqlab.run(config, tmp_path / "ours")
    done = checkpoint_of(tmp_path / "ours")["global_step"]
    assert len(plain_steps) == done
    lightning()
    seqlab.run(config, tmp_path / "lightning")
    assert len(plain_steps) == done
    ours, theirs = tmp_path / "ours", tmp_path / "lightning"
    assert same(last(ours), last(theirs))
    assert same(weights_of(ours), weights_of(theirs))
    assert (ours / "curves" / "metrics.csv").read_text() == (theirs / "curves" / "metrics.csv").read_text()
    saved = [checkpoint_of(folder) for folder in (ours, theirs)]
    for key in ("loops", "epoch", "global_step"):
        assert saved[0][key] == saved[1][key]


def test_a_skipped_step_is_that_of_lightning(names_folder, tmp_path, lightning, monkeypatch):
    """A loss of NaN leaves gradients, moments and counters as Lightning leaves them."""
    from seqlab_tasks.names import Names

    loss, calls = Names.loss, []

    def sometimes(self, outputs, batch):
        calls.append(1)
        return loss(self, outputs, batch) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr(Names, "loss", sometimes)
    config = configured(names_folder, "trainer.skip_nonfinite=1")
    seqlab.run(config, tmp_path / "ours")
    calls.clear()
    lightning()
    seqlab.run(config, tmp_path / "lightning")
    assert same(last(tmp_path / "ours"), last(tmp_path / "lightning"))
    assert checkpoint_of(tmp_path / "ours")["loops"] == checkpoint_of(tmp_path / "lightning")["loops"]


@pytest.mark.parametrize("until", [2, 9])
def test_a_run_resumed_within_an_epoch_ends_like_one_of_lightning(names_folder, tmp_path, lightning, until):
    config = configured(names_folder, "model.dropout=0.3", "model.depth=2")
    with pytest.raises(StepReachedError):
        seqlab.run(config, tmp_path / "ours", until=until)
    config.ckpt_path = "last"
    seqlab.run(config, tmp_path / "ours")
    config.ckpt_path = None
    lightning()
    seqlab.run(config, tmp_path / "lightning")
    assert same(last(tmp_path / "ours"), last(tmp_path / "lightning"))
    assert same(weights_of(tmp_path / "ours"), weights_of(tmp_path / "lightning"))


@dataclass
class Watcher(pl.Callback):
    """Count the losses that a callback is given."""

    count: int = 0

    def on_before_backward(self, trainer, pl_module, loss):
        self.count += 1


def test_callbacks_of_others_within_a_step_are_called(names_folder, tmp_path, plain_steps, monkeypatch):
    watcher = Watcher()
    monkeypatch.setattr(session, "progress_callbacks", lambda *_: [watcher])
    seqlab.run(configured(names_folder), tmp_path / "run")
    assert watcher.count == checkpoint_of(tmp_path / "run")["global_step"]
    assert not plain_steps


@pytest.mark.parametrize(
    "asked", ["trainer.accumulate_grad_batches=2", "trainer.precision=bf16-mixed", "debug=profiler"]
)
def test_other_steps_are_those_of_lightning(names_folder, tmp_path, plain_steps, asked):
    seqlab.run(configured(names_folder, asked, "trainer.max_epochs=1"), tmp_path / "run")
    assert not plain_steps
