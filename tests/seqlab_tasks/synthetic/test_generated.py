"""What holds for every generated task: necessary positions, chance, seeds, distances."""

import math
from functools import partial
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Batch
from seqlab.testing import TaskSuite, run_suite
from seqlab_tasks.sentences import Agreement, Fluent
from seqlab_tasks.synthetic import Adding, Copying, Dyck, First, Parity, Recall, TemporalOrder

CONTROL = partial(Fluent, control=True)
TASKS = [First, Adding, Copying, TemporalOrder, Parity, Recall, Dyck, Agreement, Fluent, CONTROL]
every_task = pytest.mark.parametrize("kind", TASKS, ids=lambda kind: getattr(kind, "__name__", "control"))
SHORTEST = {Agreement: 4}
"""Where the options decide."""


class Quick(TaskSuite):
    skips: ClassVar = {"same_in_another_process": "it takes a second, and a slow test runs it"}


class TestFirst(TaskSuite):
    task = First


class TestAdding(Quick):
    task = Adding


class TestCopying(Quick):
    task = Copying


class TestTemporalOrder(Quick):
    task = TemporalOrder


class TestParity(Quick):
    task = Parity


class TestRecall(Quick):
    task = Recall


class TestDyck(Quick):
    task = Dyck


class TestAgreement(Quick):
    task = Agreement


class TestFluent(Quick):
    task = Fluent


class TestControl(Quick):
    task = CONTROL


@pytest.mark.slow
@every_task
def test_splits_are_the_same_in_another_process(kind):
    class Whole(TaskSuite):
        task = staticmethod(kind)

    (outcome,) = run_suite(Whole, "same_in_another_process")
    assert outcome.result == "passed"


def drawn(task, count, length, seed=0):
    return task.sequences(count, length, torch.Generator().manual_seed(seed))


def differs(one, other):
    """Say for each row whether anything in it differs."""
    return (one != other).flatten(1).any(1) if one.dim() > 1 else one != other


@every_task
@given(length=st.integers(6, 40), seed=st.integers(0, 99))
def test_the_target_depends_on_the_necessary_positions_and_on_no_others(kind, length, seed):
    """All others changed at once change no target; a necessary one that can be changed alone changes it."""
    task, generator = kind(), torch.Generator().manual_seed(seed)
    inputs = drawn(task, 50, length, seed)
    targets, necessary = task.answer(inputs), task.necessary(inputs)
    others = task.changed(inputs, ~necessary, generator)
    assert torch.equal(task.answer(others), targets)
    alone = torch.rand(necessary.shape, generator=generator).masked_fill(~necessary, -1).argmax(1)
    where = torch.nn.functional.one_hot(alone, necessary.shape[1]).bool()
    changed = task.changed(inputs, where, generator)
    moved = differs(changed, inputs)
    assert moved.any()
    assert torch.equal(differs(task.answer(changed), targets), moved)


@every_task
def test_changes_are_made_where_they_are_asked_for(kind):
    task, generator = kind(), torch.Generator().manual_seed(0)
    inputs = drawn(task, 100, 12)
    where = torch.rand(inputs.shape[:2], generator=generator) < 0.5
    changed = task.changed(inputs, where, generator)
    different = (changed != inputs).view(*where.shape, -1).any(2)
    assert not different[~where].any()
    assert different[where].float().mean() > 0.4


@every_task
def test_chance_and_the_best_score_are_as_stated(kind):
    """The blind predictor's score over 20,000 sequences is within 3 standard errors; who knows the answer has the best.

    Of the squared error of adding, whose standard deviation is that of the square of a sum of two uniform numbers.
    """
    task, count = kind(), 20_000
    inputs = drawn(task, count, task.sequence_length)
    targets = task.answer(inputs)
    metrics = task.metrics()
    metrics.update(task.baseline_outputs(Batch(inputs, None, targets)), targets)
    score = float(metrics.compute()[task.monitor])
    chance = task.bounds.chance
    deviation = (1 / 15 - 1 / 36) ** 0.5 if kind is Adding else (chance * (1 - chance)) ** 0.5
    answers = count * (10 if kind is Copying else 1)
    assert abs(score - chance) <= 3 * deviation / answers**0.5
    right = targets.unsqueeze(-1) if kind is Adding else torch.nn.functional.one_hot(targets, task.outputs).float()
    metrics = task.metrics()
    metrics.update(right, targets)
    assert float(metrics.compute()[task.monitor]) == task.bounds.optimal
    assert task.solved({task.monitor: task.bounds.optimal})
    assert not task.solved({task.monitor: chance})


@every_task
@given(length=st.integers(6, 60), count=st.integers(1, 9))
def test_any_distance_can_be_drawn(kind, length, count):
    task = kind(sequence_length=length)
    examples = task.draw(count, seed=3)
    assert len(examples) == count
    assert (examples.inputs.lengths == examples.inputs.lengths[0]).all()
    assert int(examples.inputs.lengths[0]) >= length
    assert int(examples.inputs.values.max()) < task.inputs.size if task.inputs.kind == "tokens" else True
    if task.per_step:
        assert examples.targets.shape[1] == int(examples.inputs.lengths[0])


@every_task
def test_the_shortest_distance_can_be_drawn(kind):
    shortest = SHORTEST.get(kind, kind().shortest)
    examples = kind(sequence_length=shortest).draw(100, seed=3)
    assert int(examples.inputs.lengths[0]) >= shortest
    assert len(examples.targets.unique()) > 1


@every_task
def test_draws_depend_on_their_seed_alone(kind):
    task = kind()
    torch.manual_seed(1)
    one, other = task.draw(40, 7), task.draw(40, 8)
    torch.manual_seed(2)
    again = kind().draw(40, 7)
    assert torch.equal(one.inputs.values, again.inputs.values)
    assert torch.equal(one.targets, again.targets)
    assert not torch.equal(one.inputs.values, other.inputs.values)


@every_task
def test_a_test_split_for_each_further_distance(kind):
    task = kind(examples=10, held_out=20, eval_lengths=[70, 90])
    splits = task.splits()
    assert list(splits)[:5] == ["train", "valid", "test", "length 70", "length 90"]
    assert [len(split) for split in splits.values()][:5] == [10, 20, 20, 20, 20]
    extra = int(splits["test"].inputs.lengths[0]) - task.sequence_length
    assert int(splits["length 70"].inputs.lengths[0]) == 70 + extra
    assert int(splits["length 90"].inputs.lengths[0]) == 90 + extra


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (First, {"sequence_length": 0}, "sequence_length is 0; it must be at least 1"),
        (First, {"choices": 1}, "choices is 1; it must be at least 2"),
        (First, {"examples": 0}, "examples is 0; it must be at least 1"),
        (First, {"held_out": 0}, "held_out is 0; it must be at least 1"),
        (First, {"split_seed": -1}, "split_seed is -1; it must be at least 0"),
        (First, {"eval_lengths": [0]}, "eval_lengths has 0; each must be at least 1"),
        (First, {"eval_lengths": [9, 9]}, "eval_lengths is [9, 9]; each may occur once"),
        (Adding, {"sequence_length": 1}, "sequence_length is 1; it must be at least 2"),
        (Adding, {"marks": "ends"}, "marks is 'ends'; it must be one of halves, anywhere"),
        (Copying, {"copied": 0}, "copied is 0; it must be at least 1"),
        (Copying, {"choices": 1}, "choices is 1; it must be at least 2"),
        (TemporalOrder, {"sequence_length": 4}, "sequence_length is 4; it must be at least 5"),
        (Recall, {"pairs": 0}, "pairs is 0; it must be at least 1"),
        (Recall, {"pairs": 9}, "choices is 8; it must be at least 9"),
        (Dyck, {"kinds": 9}, "kinds is 9; it must be from 2 to 8"),
        (Agreement, {"attractors": -1}, "attractors is -1; it must be at least 0"),
        (Agreement, {"sequence_length": 3}, "sequence_length is 3; with attractors=1 it must be at least 4"),
        (Agreement, {"eval_lengths": [3]}, "eval_lengths has 3; with attractors=1 it must be at least 4"),
        (Fluent, {"sequence_length": 5}, "sequence_length is 5; it must be at least 6"),
        (Fluent, {"choices": 13}, "choices is 13; it must be at most 12"),
        (Fluent, {"choices": 1}, "choices is 1; it must be at least 2"),
    ],
)
def test_options_out_of_range(kind, options, message):
    with pytest.raises(ValueError, match=f"^{message}".replace("[", r"\[").replace("]", r"\]").replace(".", r"\.")):
        kind(**options)


def test_the_bounds_are_reported(tmp_path):
    (row,) = Adding(sequence_length=30).report({}, tmp_path).tables["bounds"]
    assert row["metric"] == "mse"
    assert row["sequence_length"] == 30
    assert row["chance"] == pytest.approx(1 / 6)
    assert (row["optimal"], row["solved"]) == (0.0, 0.01)


def test_the_chance_loss_of_copying_is_the_papers():
    """10 ln 8 / (T + 20): 0.0204 at T = 1000 (Bai, Kolter & Koltun 2018, table 1)."""
    task = Copying(sequence_length=1000)
    assert task.chance_loss == pytest.approx(0.0204, abs=5e-5)
    examples = task.draw(200, 0)
    inputs = examples.inputs.padded(torch.arange(200))[0]
    blind = task.baseline_outputs(Batch(inputs, None, examples.targets))
    assert float(task.loss(blind, Batch(inputs, None, examples.targets))) == pytest.approx(10 * math.log(8) / 1020)
