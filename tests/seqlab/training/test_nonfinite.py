"""Losses and gradients that are not finite."""

import json
import logging

import pytest
import torch

import seqlab
from seqlab import UserError
from seqlab.training.nonfinite import NonFiniteGuard, SavedStep

FAST = ["trainer.max_epochs=2", "cell.hidden_size=8", "data.batch_size=16", "logger=none", "trainer.progress=false"]


def explosive(names_folder, *more):
    """The first steps are fine; then the weights are too large for float32."""
    options = ["cell=rnn", "cell.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=1e18", "optimizer.warmup=0"]
    return seqlab.compose([*FAST, *options, f"task.data_dir={names_folder}", *more])


@pytest.mark.parametrize("clip", ["null", "1e12"])
def test_a_run_stops_and_saves_the_step(names_folder, tmp_path, clip):
    with pytest.raises(UserError, match=r"is (nan|inf) at step .* of epoch .*; `python -m seqlab replay "):
        seqlab.run(explosive(names_folder, f"trainer.gradient_clip_val={clip}"), tmp_path / "run")
    kept = SavedStep(tmp_path / "run" / "nonfinite")
    assert kept.record["what"] in ("loss", "gradient")
    assert len(kept.batch.inputs) == 16
    assert not (tmp_path / "run" / "results.json").exists()
    before = [value.clone() for value in kept.weights.values()]
    assert all(bool(value.isfinite().all()) for value in before), "the weights are those before the step"


def test_steps_can_be_skipped(names_folder, tmp_path, caplog, monkeypatch):
    """A run in which one loss is NaN continues if it may skip a step, and stops otherwise."""
    from seqlab_tasks.names import Names

    loss, calls = Names.loss, []

    def sometimes(self, outputs, batch):
        calls.append(1)
        found = loss(self, outputs, batch)
        return found * float("nan") if len(calls) == 3 else found

    monkeypatch.setattr(Names, "loss", sometimes)
    options = [*FAST, f"task.data_dir={names_folder}"]
    with caplog.at_level(logging.WARNING, "seqlab"):
        result = seqlab.run(seqlab.compose([*options, "trainer.skip_nonfinite=1"]), tmp_path / "skips")
    assert result.metrics["loss"] < float("inf")
    assert "step 2 is skipped: its loss is nan (1 of trainer.skip_nonfinite=1)" in caplog.text
    calls.clear()
    with pytest.raises(UserError, match="the loss is nan at step 2 of epoch 1"):
        seqlab.run(seqlab.compose(options), tmp_path / "ends")
    assert json.loads((tmp_path / "ends" / "nonfinite" / "step.json").read_text("utf-8"))["step"] == 2


def test_an_exploding_gradient_is_reported_once(tmp_path, caplog):
    guard = NonFiniteGuard(tmp_path)
    with caplog.at_level(logging.WARNING, "seqlab"):
        assert all(guard.accepts_gradient(norm, torch.nn.Linear(1, 1), step, 0) for step, norm in enumerate([2.0] * 20))
        assert not caplog.records
        assert guard.accepts_gradient(500.0, torch.nn.Linear(1, 1), 20, 0)
        assert guard.accepts_gradient(900.0, torch.nn.Linear(1, 1), 21, 0)
    (record,) = caplog.records
    assert "its norm before clipping is 500 at step 20, usually 2;" in record.getMessage()
    assert "trainer.gradient_clip_val" in record.getMessage()


def test_one_wrong_example_near_a_loss_of_zero_is_no_explosion(tmp_path, caplog):
    """Norms of a logistic regression on separable data, of which one label is then wrong."""
    guard, weight = NonFiniteGuard(tmp_path), 0.0
    x = torch.tensor([1.0, 2.0])
    with caplog.at_level(logging.WARNING, "seqlab"):
        for step in range(2000):
            gradient = float((-x * torch.sigmoid(-weight * x)).mean())
            assert guard.accepts_gradient(abs(gradient), torch.nn.Linear(1, 1), step, 0)
            weight -= 5 * gradient
        wrong = float((x * torch.sigmoid(weight * x)).mean())
        assert wrong > 100 * abs(gradient)
        assert guard.accepts_gradient(wrong, torch.nn.Linear(1, 1), 2000, 0)
    assert not caplog.records
