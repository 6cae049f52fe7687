"""Lengths of generated training sequences: the schedule, its batches, and held-out splits of any length."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Examples, Ragged, UserError, compose
from seqlab.contracts.task import at_length, is_solved
from seqlab.data.datamodule import SequenceData
from seqlab.data.lengths import LengthSchedule
from seqlab.data.loaders import Shard
from seqlab.training.session import prepare_data
from seqlab_tasks.synthetic import HMM, Adding, Copying, First

from .test_datamodule import Letters


def prepared(task, **options):
    data = SequenceData(task, None, **options)
    data.prepare()
    return data


@given(
    passes=st.lists(st.booleans(), max_size=40),
    growth=st.floats(1.01, 4),
    patience=st.integers(1, 3),
    start=st.integers(1, 30),
)
def test_the_ceiling_grows_after_so_many_passes_in_a_row(passes, growth, patience, start):
    options = {"lengths": "curriculum", "start_length": start, "growth": growth, "patience": patience}
    schedule = LengthSchedule(First(200, **options), 32, 1000)
    text, expected = "", start
    for passed in passes:
        low, high = schedule.range
        assert (low, high) == (max(1, expected // 2), expected)
        assert schedule.batch_size == max(1, min(32, 1000 // expected))
        schedule.check(passed=passed)
        text = text + "x" if passed else ""
        if len(text) == patience and expected < 200:
            text, expected = "", min(200, math.ceil(expected * growth))
        assert schedule.ceiling == expected
        again = LengthSchedule(First(200, **options), 32, 1000)
        again.load_state_dict(schedule.state_dict())
        assert (again.state_dict(), again.range) == (schedule.state_dict(), schedule.range)


def lengths_of(loader):
    return [batch.inputs.shape[1] for batch in loader]


def test_uniform_batches_have_one_length_each_from_the_whole_range():
    loader = prepared(First(9, lengths="uniform", min_length=4, examples=6_000), batch_size=20).train_dataloader()
    batches = list(loader)
    assert all(batch.lengths is None and len(batch.targets) == 20 for batch in batches)
    assert all(torch.equal(batch.inputs[:, 0] - 1, batch.targets) for batch in batches)
    counts = torch.tensor(lengths_of(loader)).bincount(minlength=11).tolist()
    assert counts[:4] == [0] * 4
    assert counts[10:] == [0]
    assert all(25 < count < 80 for count in counts[4:10])  # 50 each, with a standard deviation of 6.5


def test_batches_depend_on_seed_epoch_and_index_alone():
    data = prepared(Adding(40, lengths="curriculum", check_every=7), batch_size=3, seed=1)
    loader = data.train_dataloader()
    first = list(loader)
    loader.load_state_dict({"done": 4})
    assert all(map(same, first[4:], loader))
    loader.set_epoch(1)
    assert not any(map(same, first, loader))
    loader.set_epoch(0)
    assert not any(map(same, first, prepared(data.task, batch_size=3, seed=2).train_dataloader()))
    shards = [prepared(data.task, batch_size=3, seed=1, shard=Shard(rank, 2)).train_dataloader() for rank in (0, 1)]
    for whole, *parts in zip(first, *shards, strict=True):
        assert torch.equal(torch.stack([whole.targets[0], whole.targets[2]]), parts[0].targets)
        assert torch.equal(whole.targets[1:2], parts[1].targets)
    assert [shard.weight for shard in shards] == pytest.approx([4 / 3, 2 / 3])


def same(one, other):
    return one.inputs.shape == other.inputs.shape and torch.equal(one.inputs, other.inputs)


@pytest.mark.parametrize("task", [Copying(9, lengths="uniform", copied=2), HMM(9, lengths="uniform", blocks=3)])
def test_a_task_with_an_output_per_step_can_be_scored_at_every_length(task):
    for batch in prepared(task, batch_size=500).train_dataloader():
        assert batch.targets.shape == batch.inputs.shape
        assert task.loss(task.baseline_outputs(batch), batch).isfinite()


def test_a_budget_of_steps_counts_time_steps():
    data = prepared(Copying(10, copied=3), batch_size=64, tokens_per_batch=50)  # 10 + 2 * 3 steps each
    assert {len(batch.targets) for batch in data.train_dataloader()} == {3, 1}
    assert data.train_dataloader().batches == 3334


def test_held_out_examples_of_a_length_are_always_the_same_and_bounded():
    data = prepared(First(10**6, lengths="curriculum", held_out=2_000, split_seed=5), eval_batch_size=64)
    loader = data.held_out_loader("valid", 20_000)
    one = next(iter(loader))
    assert one.inputs.shape == (2**18 // 20_000, 20_000)
    loader.set_epoch(3)
    assert same(one, next(iter(loader)))
    sizes = {length: len(list(data.held_out_loader("test", length))) for length in (7, 3_000)}
    assert sizes == {7: -(-2_000 // 64), 3_000: -(-(2**21 // 3_000) // 64)}
    assert not same(one, next(iter(data.held_out_loader("test", 20_000))))
    data.choose_test_length(100_000)
    assert data.statistics["test"]["examples"] == 100
    assert data.statistics["test"]["length"]["longest"] == 100_000


@pytest.mark.parametrize("loss", [0.3, 0.4, 0.5, 0.6])
def test_a_task_is_solved_by_the_bounds_of_the_length(loss):
    for length in (2, 5, 30):
        expected = is_solved(HMM(length), {"loss": loss})
        assert is_solved(at_length(HMM(9), length), {"loss": loss}) == expected


def generated(**members):
    from seqlab import GeneratedTask

    def draw(self, count, seed):
        return Examples(Ragged(torch.ones(count * 4, dtype=torch.int64), [4] * count), torch.zeros(count).long())

    return type("Third", (Letters, GeneratedTask), {"fresh": True, "draw": draw, **members})(sequence_length=9)


def longer(self, count, seed, length=None):
    steps = length or self.sequence_length
    return Examples(Ragged(torch.ones(count * steps, dtype=torch.int64), [steps] * count), torch.zeros(count).long())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"lengths": "uniform"},
            r"lengths=uniform needs draw\(count, seed, length=None\): add the argument length to Th",
        ),
        ({"eval_multiples": [2]}, r"eval_multiples needs draw\(count, seed, length=None\)"),
        ({"lengths": "curriculum", "draw": longer}, "lengths=curriculum needs .* add the method solved to Third"),
        ({"lengths": "uniform", "draw": longer, "fresh": False}, r"set Third\.fresh to True"),
    ],
)
def test_a_task_that_cannot_vary_its_lengths_is_refused_with_what_to_add(members, message):
    with pytest.raises(ValueError, match=message):
        LengthSchedule(generated(**members), 8, None)


def test_a_third_party_varies_its_lengths_with_a_length_in_draw():
    schedule = LengthSchedule(generated(draw=longer, lengths="uniform", min_length=3), 8, 18)
    assert (schedule.range, schedule.batch_size) == ((3, 9), 2)
    assert LengthSchedule(generated(), 8, None).range == (9, 9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=first", "task.lengths=curriculum", "data.workers=1"], "data.workers must be 0 with lengths=curriculum"),
        (["task=first", "task.lengths=curriculum", "trainer.overfit_batches=1"], "trainer.overfit_batches must be 0"),
        (["task=first", "task.lengths=uniform", "task.fresh=false"], "fresh must be true with lengths=uniform"),
        (["task=first", "task.lengths=curriculum", "task.start_length=30"], "start_length must be >= 1 and <= 20"),
        (["task=first", "task.growth=1"], "growth must be > 1, got 1"),
        (["task=first", "task.eval_multiples=[2,2]"], r"eval_multiples must be distinct, got \[2, 2\]"),
        (["task=names", "data.tokens_per_batch=9"], "data.tokens_per_batch must be null: the task does not generate"),
    ],
)
def test_wrong_options_are_refused(words, message):
    from seqlab.config.schema import plain_config

    with pytest.raises((UserError, ValueError), match=message):
        prepare_data(plain_config(compose(words)))
