"""Training on examples that are drawn as it goes: exact on resume and on several processes; further test splits."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seqlab
from seqlab import Examples, GeneratedTask, Preprocessor, Ragged
from seqlab.data.datamodule import SequenceData
from seqlab.data.loader import Share
from seqlab.data.loaders import GeneratedLoader
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


def draw(count, seed):
    """Rows of unequal lengths, all different."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=generator)
    steps = int(lengths.sum())
    return Ragged(torch.randint(1, 10**9, (steps,), generator=generator), lengths), torch.arange(count)


def draw_even(count, seed):
    """Rows of five steps of three features, all different."""
    values = torch.randn(5 * count, 3, generator=torch.Generator().manual_seed(seed))
    return Ragged(values, torch.full((count,), 5)), torch.arange(count)


def batches(loader, epoch=0, begin=0):
    loader.set_epoch(epoch)
    loader.load_state_dict({"done": begin})
    return list(loader)


def same(one, other):
    return torch.equal(one.inputs, other.inputs)


@given(examples=st.integers(1, 2500), batch_size=st.integers(200, 700))
def test_batches_of_one_length_are_the_rows_that_are_drawn(examples, batch_size):
    loader = GeneratedLoader(draw_even, examples=examples, batch_size=batch_size)
    found = list(loader)
    assert sum(len(batch.inputs) for batch in found) == examples
    for number, batch in enumerate(found):
        inputs, targets, rows = loader.rows(number)
        values, lengths = inputs.padded(rows)
        assert batch.lengths is lengths is None
        assert torch.equal(batch.inputs, values)
        assert torch.equal(batch.targets, targets[rows])


@given(
    examples=st.integers(1, 2500), batch_size=st.integers(200, 700), begin=st.integers(0, 3), epoch=st.integers(0, 3)
)
def test_a_batch_depends_on_seed_epoch_and_place_alone(examples, batch_size, begin, epoch):
    def loader(seed=5):
        return GeneratedLoader(draw, examples=examples, batch_size=batch_size, seed=seed)

    found = batches(loader(), epoch)
    assert len(found) == len(loader())
    assert [len(batch.targets) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert sum(len(batch.targets) for batch in found) == examples
    for batch, again in zip(found[begin:], batches(loader(), epoch, begin), strict=True):
        assert same(batch, again)
    assert not same(found[0], batches(loader(), epoch + 1)[0])
    assert not same(found[0], batches(loader(seed=6), epoch)[0])
    assert len(found) == 1 or not same(found[0], found[1])


@given(examples=st.integers(1, 1500), batch_size=st.integers(200, 700), world=st.integers(1, 5), by_steps=st.booleans())
def test_the_shares_of_a_batch_are_the_batch(examples, batch_size, world, by_steps):
    settings = {"examples": examples, "batch_size": batch_size, "by_steps": by_steps}
    whole = batches(GeneratedLoader(draw, **settings))
    loaders = [GeneratedLoader(draw, **settings, share=Share(rank, world)) for rank in range(world)]
    shares = [[(batch.inputs, loader.weight) for batch in loader] for loader in loaders]
    for place, batch in enumerate(whole):
        parts = [(inputs, weight) for inputs, weight in (share[place] for share in shares) if weight]
        rows = sorted(tuple(row[row > 0].tolist()) for inputs, _ in parts for row in inputs)
        assert rows == sorted(tuple(row[row > 0].tolist()) for row in batch.inputs)
        assert sum(weight for _, weight in parts) == pytest.approx(world)
        sizes = [int((inputs > 0).sum()) if by_steps else len(inputs) for inputs, _ in parts]
        assert [weight / world for _, weight in parts] == pytest.approx([size / sum(sizes) for size in sizes])


def test_by_heart_draws_the_same_in_every_epoch():
    loader = GeneratedLoader(draw, examples=100, batch_size=10, by_heart=2)
    first, later = batches(loader), batches(loader, epoch=4)
    assert len(first) == len(later) == 2
    assert all(map(same, first, later))


def test_workers_draw_the_same():
    alone, ahead = (GeneratedLoader(draw, examples=30, batch_size=8, workers=workers) for workers in (0, 1))
    assert all(map(same, batches(alone, 2), batches(ahead, 2)))


@pytest.mark.parametrize("size", ["examples", "batch_size"])
def test_sizes_are_positive(size):
    with pytest.raises(ValueError, match=f"{size} must be >= 1, got 0"):
        GeneratedLoader(draw, **{"examples": 3, "batch_size": 2, size: 0})


class Repeated(Letters, GeneratedTask):
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
    class Fresh(Letters, GeneratedTask):
        """Fresh without a method that draws."""

    with pytest.raises(TypeError, match=r"Fresh\.fresh is True, but the class has no method draw"):
        Fresh().draw(3, 0)


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
