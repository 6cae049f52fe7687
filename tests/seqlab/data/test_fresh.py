"""Training on generated examples: exact on resume and over several processes; extra test splits."""

import json

import pytest
import torch

import seqlab
from seqlab import Examples, Preprocessor, Ragged
from seqlab.data.datamodule import SequenceData
from seqlab.runs import run_folder
from seqlab.training.module import SequenceModule

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


class Repeated(Letters):
    """Draws texts: the letter a, as often as asked for."""

    fresh = True

    def draw(self, count, seed):
        return Examples(["a" * (seed % 5 + 1)] * count, torch.zeros(count, dtype=torch.int64))


class AOnly(Preprocessor):
    """Counts letters."""

    size, unknown_id = 2, 0

    def fit(self, texts):
        pass

    def encode(self, texts):
        return Ragged.of([torch.ones(len(text), dtype=torch.int64) for text in texts])

    def decode(self, ids):
        return "a" * len(ids)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_texts_that_are_drawn_are_encoded_and_cut():
    data = SequenceData(Repeated(sequence_length=2), AOnly(), batch_size=4)
    data.prepare()
    found = list(data.train_dataloader())
    assert [batch.inputs.shape[0] for batch in found] == [4, 2]
    assert max(batch.inputs.shape[1] for batch in found) <= 2
    assert all(bool((batch.inputs == 1).all()) for batch in found)


def test_a_task_that_draws_nothing_says_so():
    with pytest.raises(TypeError, match="Letters is fresh, but draws nothing: it has no method draw"):
        Letters().draw(3, 0)


class InterruptedRunError(Exception):
    """The power went."""


@pytest.mark.parametrize("at", [(1, 0), (2, 3)])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch, at):
    config = seqlab.compose([*SMALL, "trainer.checkpoint_minutes=0"])
    seqlab.run(config, tmp_path / "whole")
    step = SequenceModule.training_step

    def dies(self, batch, batch_index):
        if (self.current_epoch, batch_index) == at:
            raise InterruptedRunError
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", dies)
        with pytest.raises(InterruptedRunError):
            seqlab.run(config, tmp_path / "cut")
    seqlab.run(seqlab.compose([*SMALL, "trainer.checkpoint_minutes=0", "ckpt_path=last"]), tmp_path / "cut")
    one, other = (torch.load(tmp_path / name / run_folder.RESUME, weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())


def test_fresh_examples_are_new_in_every_epoch_and_fixed_ones_are_not(tmp_path, monkeypatch):
    seen = []
    step = SequenceModule.training_step

    def notes(self, batch, batch_index):
        seen.extend(map(tuple, batch.inputs.tolist()))
        return step(self, batch, batch_index)

    monkeypatch.setattr(SequenceModule, "training_step", notes)
    long = [*SMALL, "task.sequence_length=12"]
    seqlab.run(seqlab.compose(long), tmp_path / "fresh")
    assert len(seen) == len(set(seen)) == 210
    seen.clear()
    seqlab.run(seqlab.compose([*long, "task.fresh=false"]), tmp_path / "fixed")
    assert len(seen) == 210
    assert len(set(seen)) == 70


def test_further_splits_are_scored_each_by_itself(tmp_path):
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


def test_no_table_without_further_splits(tmp_path):
    result = seqlab.run(seqlab.compose(SMALL), tmp_path / "run")
    assert set(result.record["tables"]) == {"bounds"}


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    words = [*SMALL, "data.batch_size=15", "task.eval_lengths=[9]"]
    one = seqlab.run(seqlab.compose([*words, "trainer=cpu"]), tmp_path / "one")
    two = seqlab.run(seqlab.compose([*words, "trainer=ddp_cpu"]), tmp_path / "two")
    assert dict(two.metrics) == pytest.approx(dict(one.metrics), rel=1e-4)
    for row, other in zip(one.record["tables"]["further_tests"], two.record["tables"]["further_tests"], strict=True):
        assert other.pop("split") == row.pop("split")
        assert other == pytest.approx(row, rel=1e-4)
