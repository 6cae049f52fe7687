"""Limits on steps and batches: runs that end within an epoch, and limits without a batch."""

import pytest
import torch
from safetensors.torch import load_file

import seqlab
from seqlab import UserError
from seqlab.cli.output import Output, show_results
from seqlab.runs.run_folder import MODEL, RESUME
from seqlab.training.checkpoint import StepReachedError
from seqlab.training.module import SequenceModule

from ..resumable import checkpoint_of, last, same


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (2, []),
        pytest.param(3, [], marks=pytest.mark.slow),
        pytest.param(3, ["trainer.accumulate_grad_batches=2", "data.batch_size=16"], marks=pytest.mark.slow),
    ],
)
def test_a_run_that_max_steps_ends_within_an_epoch_goes_on_bit_for_bit(resume_config, tmp_path, steps, options):
    """Also where its last validation chose weights that no later one beats, and one that was killed before it."""
    words = ["trainer.max_epochs=null", *options, "model.dropout=0.3"]
    whole = seqlab.run(resume_config(*words, "ckpt_path=null", "trainer.max_steps=9"), tmp_path / "whole")
    cut = seqlab.run(resume_config(*words, "ckpt_path=null", f"trainer.max_steps={steps}"), tmp_path / "cut")
    assert cut.record["cost"]["steps"] == steps
    assert cut.record["cost"]["epochs"] == steps // 3 * (not options)
    assert cut.record["best"]["step"] == steps
    assert whole.record["cost"]["steps"] == 9
    assert cut.record["metrics"]["valid"].keys() == whole.record["metrics"]["valid"].keys()
    further = seqlab.run(resume_config(*words, "trainer.max_steps=9"), tmp_path / "cut")
    assert same(last(tmp_path / "cut"), last(tmp_path / "whole"))
    for count in ("steps", "epochs", "batches", "examples"):
        assert further.cost[count] == whole.cost[count]
    assert [part["to"]["step"] for part in further.record["history"]] == [steps, 9]


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_last_validation_is_validated_when_it_goes_on(
    resume_config, tmp_path, monkeypatch
):
    words = ["trainer.max_steps=2"]
    whole = seqlab.run(resume_config(*words, "ckpt_path=null"), tmp_path / "whole")

    def dies(self, batch, batch_index):
        raise StepReachedError

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "validation_step", dies)
        with pytest.raises(StepReachedError):
            seqlab.run(resume_config(*words, "ckpt_path=null"), tmp_path / "cut")
    cut = seqlab.run(resume_config(*words), tmp_path / "cut")
    assert cut.record["metrics"] == whole.record["metrics"]
    assert cut.record["best"] == whole.record["best"]
    assert same(load_file(tmp_path / "cut" / MODEL), load_file(tmp_path / "whole" / MODEL))


def test_every_step_is_validated_and_epochs_are_told_once(resume_config, tmp_path, caplog):
    """Three batches an epoch, four steps: one whole epoch, and a part of the next."""
    words = ["trainer.progress=auto", "trainer.max_steps=4", "data.batch_size=64", "ckpt_path=null"]
    with caplog.at_level("INFO", "seqlab"):
        result = seqlab.run(resume_config(*words), tmp_path / "run")
    batches = -(-result.record["data"]["train"]["examples"] // 64)
    assert batches == 3
    lines = [record.message.partition("  train/loss")[0] for record in caplog.records if "epoch" in record.message]
    assert lines == ["epoch 1/3  step 3/4", "epoch 2/3  step 4/4  (1 of 3 batches)"]
    assert (result.cost["epochs"], result.cost["steps"]) == (1, 4)
    assert checkpoint_of(tmp_path / "run")["callbacks"]["RunCheckpoint"]["validated"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.max_steps=0"], "trainer.max_steps must be >= 1 or -1 .no limit., got 0"),
        (["trainer.max_steps=-5"], "trainer.max_steps must be >= 1"),
        (["trainer.max_epochs=null"], "trainer.max_epochs=null needs trainer.max_steps"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches must be > 0"),
        (["trainer.limit_test_batches=0.0"], "trainer.limit_test_batches must be > 0"),
        (["trainer.limit_train_batches=0"], "trainer.limit_train_batches must be > 0"),
        (["trainer.limit_test_batches=0.001"], r"trainer.limit_test_batches=0.001 of 1 batches is none"),
        (["trainer.limit_train_batches=0.1"], r"trainer.limit_train_batches=0.1 of 3 batches is none.* 0\.33"),
    ],
)
def test_limits_that_leave_nothing_are_refused_before_training(resume_config, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        seqlab.run(resume_config("ckpt_path=null", *words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [["trainer.max_epochs=1"], ["trainer.max_steps=4", "trainer.max_epochs=null"]])
@pytest.mark.parametrize("is_old", [False, True])
def test_resuming_a_finished_run_changes_nothing(small_data, tmp_path, options, is_old):
    """Also with a carried state and a checkpoint of an earlier release."""
    words = ["task=lm", small_data["lm"], "cell=gru", "cell.hidden_size=8", "task.sequence_length=10", "logger=none"]
    words += ["data.batch_size=8", "trainer.accumulate_grad_batches=2", "trainer.limit_train_batches=5", *options]
    words += ["trainer.threads=1", "trainer.progress=false"]
    first = seqlab.run(seqlab.compose(words), tmp_path / "run")
    if is_old:
        saved = checkpoint_of(tmp_path / "run")
        del saved["run"], saved["callbacks"]["ValidationBaseline"]
        for key in ("best_step", "validated"):
            del saved["callbacks"]["RunCheckpoint"][key]
        saved["callbacks"]["Cost"] |= {"epochs": first.cost["epochs"]}
        torch.save(saved, tmp_path / "run" / RESUME)
    again = seqlab.run(seqlab.compose([*words, "ckpt_path=last"]), tmp_path / "run")
    for key in ("metrics", "chance", "verdict"):
        assert again.record[key] == first.record[key]
    for key in ("epochs", "steps", "batches", "examples"):
        assert again.cost[key] == first.cost[key]
    step = None if is_old else first.cost["steps"]
    assert again.record["best"] == {**first.record["best"], "step": step}
    assert again.record["history"][-1]["to"] == first.record["history"][-1]["to"]
    show_results(again, Output(quiet=True))
