"""NT-ASGD: begins when an epoch is worse than the best one n epochs before; then the mean of all steps' weights."""

import random

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

import seqlab
from seqlab import UserError
from seqlab.runs import run_folder
from seqlab.training.averaging import NonMonotonicAveraging
from seqlab.training.module import SequenceModule

FAST = ["task=names", "optimizer=nt_asgd", "optimizer.lr=2.0", "optimizer.averaging=1", "cell.hidden_size=6"]
FAST += ["trainer.max_epochs=12", "trainer.early_stopping=null", "data.batch_size=16", "trainer.progress=false"]
FAST += ["logger=none"]


@pytest.fixture
def names_folder(tmp_path):
    """Names whose labels mean nothing, so that what is learned makes validation worse and worse."""
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
def test_it_begins_as_algorithm_1_says(losses, patience, begins):
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
        if averaging.averages and found is None:
            found = epoch
    assert found == begins


def test_what_is_kept_is_the_mean_of_the_steps_weights(names_folder, tmp_path, monkeypatch):
    steps = []
    batch_end = NonMonotonicAveraging.on_train_batch_end

    def watched(self, trainer, module, *rest):
        if self._mean:
            steps.append([weight.detach().clone() for weight in module.model.parameters()])
        batch_end(self, trainer, module, *rest)

    monkeypatch.setattr(NonMonotonicAveraging, "on_train_batch_end", watched)
    seqlab.run(configured(names_folder), tmp_path / "run")
    assert steps, "averaging never began"
    checkpoint = torch.load(tmp_path / "run" / run_folder.RESUME, weights_only=True)["state_dict"]
    names = [name for name in checkpoint if name.startswith("model.")]
    means = [torch.stack([step[index] for step in steps]).mean(0) for index in range(len(steps[0]))]
    for name, mean in zip(names, means, strict=True):
        torch.testing.assert_close(checkpoint[name], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("epoch", [3, 7])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(names_folder, tmp_path, monkeypatch, epoch):
    seqlab.run(configured(names_folder), tmp_path / "whole")
    step = SequenceModule.training_step

    def dies(self, batch, batch_index):
        if (self.current_epoch, batch_index) == (epoch, 1):
            raise KeyError("the power went")
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", dies)
        with pytest.raises(KeyError):
            seqlab.run(configured(names_folder), tmp_path / "cut")
    seqlab.run(configured(names_folder, "ckpt_path=last"), tmp_path / "cut")
    whole, cut = (load_file(tmp_path / name / run_folder.MODEL) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    resumed = [
        torch.load(tmp_path / name / run_folder.RESUME, weights_only=True)["state_dict"] for name in ("whole", "cut")
    ]
    assert all(torch.equal(resumed[0][name], resumed[1][name]) for name in resumed[0])


def test_a_patience_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"optimizer.averaging is 0; it must be at least 1, or null"):
        NonMonotonicAveraging("valid/loss", "min", 0)
