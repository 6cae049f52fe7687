"""Learning-rate schedules from epoch to epoch, and NT-ASGD's averaged weights."""

import random

import pytest
import pytorch_lightning as pl
import torch

import seqlab
from seqlab.training.module import SequenceModule
from seqlab.training.optimizers import EpochDecay, NonMonotonicAveraging

from ..resumable import checkpoint_of, interrupted, last, same, weights_of

FAST = ["task=names", "optimizer=nt_asgd", "optimizer.lr=2.0", "optimizer.averaging=1", "cell.hidden_size=6"]
FAST += ["trainer.max_epochs=12", "trainer.early_stopping=null", "data.batch_size=16", "trainer.progress=false"]
FAST += ["logger=none"]


@pytest.fixture
def names_folder(tmp_path):
    """Names with random labels: training makes the validation loss worse and worse."""
    letters = random.Random(0)
    folder = tmp_path / "noise"
    folder.mkdir()
    for label in ("One", "Two", "Three"):
        rows = {"".join(letters.choices("abcdefgh", k=6)).capitalize() for _ in range(60)}
        (folder / f"{label}.txt").write_text("\n".join(sorted(rows)) + "\n", "utf-8")
    return folder


def configured(names_folder, *overrides):
    return seqlab.compose([*FAST, f"task.data_dir={names_folder}", *overrides])


@pytest.mark.parametrize(
    ("losses", "patience", "begins"),
    [
        ([5, 4, 3, 2, 1], 1, None),
        ([5, 4, 4.5, 4.2], 1, 3),
        ([5, 4, 4.5, 3], 1, None),
        ([5, 4, 4.5, 4.4, 4.3, 4.2], 3, 5),
        ([5, 4, 4.5, 3, 3.5, 3.4, 3.3], 5, None),
    ],
)
def test_averaging_begins_as_in_algorithm_1(losses, patience, begins):
    """Worked by hand: at epoch t (from 0), t > n and v_t > min of v_0 .. v_{t-n-1}."""
    averaging = NonMonotonicAveraging("valid/loss", "min", patience)
    module = SequenceModule.__new__(SequenceModule)
    torch.nn.Module.__init__(module)
    module.model = torch.nn.Linear(1, 1)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    found = None
    for epoch, loss in enumerate(losses):
        trainer.callback_metrics["valid/loss"] = torch.tensor(float(loss))
        averaging.on_train_epoch_end(trainer, module)
        if averaging.has_begun and found is None:
            found = epoch
    assert found == begins


def test_the_saved_weights_are_the_mean_of_the_steps_weights(names_folder, tmp_path, monkeypatch):
    steps = []
    batch_end = NonMonotonicAveraging.on_train_batch_end

    def watched(self, trainer, module, *rest):
        if self._mean:
            steps.append([weight.detach().clone() for weight in module.model.parameters()])
        batch_end(self, trainer, module, *rest)

    monkeypatch.setattr(NonMonotonicAveraging, "on_train_batch_end", watched)
    seqlab.run(configured(names_folder), tmp_path / "run")
    assert steps, "averaging never began"
    checkpoint = checkpoint_of(tmp_path / "run")["state_dict"]
    names = [name for name in checkpoint if name.startswith("model.")]
    means = [torch.stack([step[index] for step in steps]).mean(0) for index in range(len(steps[0]))]
    for name, mean in zip(names, means, strict=True):
        torch.testing.assert_close(checkpoint[name], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("epoch", [3, 7])
def test_a_resumed_run_with_averaging_equals_the_uninterrupted_one(names_folder, tmp_path, epoch):
    seqlab.run(configured(names_folder), tmp_path / "whole")
    with interrupted(epoch, 1):
        seqlab.run(configured(names_folder), tmp_path / "cut")
    seqlab.run(configured(names_folder, "ckpt_path=last"), tmp_path / "cut")
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))
    assert same(last(tmp_path / "whole"), last(tmp_path / "cut"))


def test_decay_begins_after_decay_after_epochs():
    """Zaremba et al. 2014: four epochs at 1, then halved in each."""
    decay = EpochDecay({"schedule": "decay", "decay": 0.5, "decay_after": 4}, "min")
    found = []
    for epoch in range(7):
        decay.start_epoch(epoch)
        found.append(decay.factor)
    assert found == [1, 1, 1, 1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_plateau_decays_where_the_metric_does_not_improve(mode, sign):
    decay = EpochDecay({"schedule": "plateau", "decay": 0.1, "patience": 1}, mode)
    found = []
    for metric in (5, 4, 4.5, 4.2, 3, 3, 3, 2):
        decay.end_epoch(sign * metric)
        found.append(round(decay.factor, 6))
    assert found == [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]
    again = EpochDecay({"schedule": "plateau", "decay": 0.1, "patience": 1}, mode)
    again.load_state_dict(decay.state_dict())
    decay.end_epoch(sign * 2)
    again.end_epoch(sign * 2)
    assert again.state_dict() == decay.state_dict()
