"""Training on generated examples: exact on resume and over several processes; extra test splits."""

import json

import pytest
import torch

import seqlab
from seqlab import Examples, GeneratedTask
from seqlab.data.datamodule import SequenceData
from seqlab.data.fingerprint import fingerprint
from seqlab.runs import run_folder
from seqlab.training.module import SequenceModule
from seqlab_preprocessing.characters import Characters
from seqlab_tasks.synthetic import First

from .test_datamodule import Letters

SMALL = [
    "task=first",
    "task.sequence_length=4",
    "task.examples=70",
    "task.held_out=40",
    "data.batch_size=16",
    "cell.hidden_size=6",
    "trainer.max_epochs=3",
    "trainer.progress=false",
    "trainer.threads=1",
    "logger=csv",
]


class Repeated(Letters, GeneratedTask):
    """Generates texts of the letter a alone."""

    fresh = True

    def draw(self, count, seed):
        return Examples(["a" * (seed % 5 + 1)] * count, torch.zeros(count, dtype=torch.int64))


def test_generated_texts_are_encoded_and_truncated():
    data = SequenceData(Repeated(sequence_length=2), Characters(), batch_size=4)
    data.prepare()
    found = list(data.train_dataloader())
    assert [batch.inputs.shape[0] for batch in found] == [4, 2]
    assert max(batch.inputs.shape[1] for batch in found) <= 2
    assert len({int(token) for batch in found for token in batch.inputs.unique()} - {0}) == 1


def test_a_fresh_task_must_generate():
    class Fresh(Letters, GeneratedTask):
        """Fresh without a method that draws."""

    with pytest.raises(TypeError, match=r"Fresh\.fresh is True, but the class has no method draw"):
        Fresh().draw(3, 0)


class WideFirst(First):
    """Keeps token ids in int64."""

    def _examples(self, *arguments):
        found = super()._examples(*arguments)
        return Examples(found.inputs.widened(), found.targets)


def test_token_ids_are_narrow_for_a_model_that_takes_them_only(monkeypatch):
    """The values and the fingerprint are those of int64, and other models get int64."""
    monkeypatch.setattr("seqlab.data.fingerprint._BLOCK", 7)
    narrow, wide = (
        SequenceData(task(5, examples=8, held_out=4, split_seed=3), None, batch_size=4) for task in (First, WideFirst)
    )
    for data in (narrow, wide):
        data.prepare()
    assert fingerprint(narrow) == fingerprint(wide)
    expected = [batch for split in ("train", "valid") for batch in wide.loader(split)]
    for allowed, dtype in ((False, torch.int64), (True, torch.uint8)):
        narrow.narrow_tokens = allowed
        found = [batch for split in ("train", "valid") for batch in narrow.loader(split)]
        assert {batch.inputs.dtype for batch in found} == {dtype}
        assert all(map(torch.equal, (b.inputs.long() for b in found), (b.inputs for b in expected)))
    assert narrow.probe(3).inputs.dtype == narrow.training_inputs().values.dtype == torch.int64


class InterruptedRunError(Exception):
    """Ends a run."""


@pytest.mark.parametrize("at", [(1, 0), (2, 3)])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch, at):
    config = seqlab.compose([*SMALL, "trainer.checkpoint_minutes=0"])
    whole = seqlab.run(config, tmp_path / "whole")
    assert set(whole.record["tables"]) == {"bounds"}  # without extra splits, no further_tests
    step = SequenceModule.training_step

    def interrupted_step(self, batch, batch_index):
        if (self.current_epoch, batch_index) == at:
            raise InterruptedRunError
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", interrupted_step)
        with pytest.raises(InterruptedRunError):
            seqlab.run(config, tmp_path / "cut")
    seqlab.run(seqlab.compose([*SMALL, "trainer.checkpoint_minutes=0", "ckpt_path=last"]), tmp_path / "cut")
    one, other = (torch.load(tmp_path / name / run_folder.RESUME, weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())


def test_fresh_examples_are_new_in_every_epoch_and_fixed_ones_are_not(tmp_path, monkeypatch):
    seen = []
    step = SequenceModule.training_step

    def recording_step(self, batch, batch_index):
        seen.extend(map(tuple, batch.inputs.tolist()))
        return step(self, batch, batch_index)

    monkeypatch.setattr(SequenceModule, "training_step", recording_step)
    long = [*SMALL, "task.sequence_length=12"]
    seqlab.run(seqlab.compose(long), tmp_path / "fresh")
    assert len(seen) == len(set(seen)) == 210
    seen.clear()
    seqlab.run(seqlab.compose([*long, "task.fresh=false"]), tmp_path / "fixed")
    assert len(seen) == 210
    assert len(set(seen)) == 70


def test_each_extra_split_is_scored_separately(tmp_path):
    result = seqlab.run(seqlab.compose([*SMALL, "task.eval_lengths=[4,30]"]), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    four, thirty = record["tables"]["further_tests"]
    assert (four["split"], four["examples"], four["longest"]) == ("length 4", 40, 4)
    assert (thirty["split"], thirty["longest"]) == ("length 30", 30)
    for row in (four, thirty):
        for name in result.metrics:
            assert 0 <= row[name] <= 5
            assert f"chance_{name}" in row
    assert four["loss"] != result.metrics["loss"]
    trained = seqlab.load(tmp_path / "run")
    examples = trained.task.__class__(sequence_length=4, examples=70, held_out=40, eval_lengths=[30]).splits()
    scores = trained.task.metrics()
    for rows, _, outputs in trained.outputs(examples["length 30"].inputs):
        scores.update(outputs, examples["length 30"].targets[rows])
    assert {name: float(value) for name, value in scores.compute().items()} == pytest.approx(
        {name: thirty[name] for name in result.metrics}, abs=1e-5
    )


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    words = [*SMALL, "data.batch_size=15", "task.eval_lengths=[9]"]
    one = seqlab.run(seqlab.compose([*words, "trainer=cpu"]), tmp_path / "one")
    two = seqlab.run(seqlab.compose([*words, "trainer=ddp_cpu"]), tmp_path / "two")
    assert dict(two.metrics) == pytest.approx(dict(one.metrics), rel=1e-4)
    for row, other in zip(one.record["tables"]["further_tests"], two.record["tables"]["further_tests"], strict=True):
        assert other.pop("split") == row.pop("split")
        assert other == pytest.approx(row, rel=1e-4)
