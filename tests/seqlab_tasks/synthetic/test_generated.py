"""Laws of every generated task: relevant positions, baseline, optimum, seeds, distances; small models learn."""

import math
from functools import partial
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seqlab
from seqlab import Batch
from seqlab.testing import TaskSuite, run_suite
from seqlab_tasks.sentences import Agreement, Fluent
from seqlab_tasks.synthetic import (
    HMM,
    MQAR,
    Adding,
    Copying,
    CycleNavigation,
    DuplicateString,
    Dyck,
    EvenPairs,
    First,
    InductionHeads,
    ModularArithmetic,
    OddsFirst,
    Parity,
    Recall,
    ReverseString,
    SelectiveCopying,
    StackManipulation,
    TemporalOrder,
    WordProblem,
)  # fmt: skip

CONTROL = partial(Fluent, control=True)
BRACKETS = partial(ModularArithmetic, brackets=True)
OLDER = [First, Adding, Copying, TemporalOrder, Parity, Recall, Dyck, Agreement, Fluent, CONTROL]
CERTAIN = [
    EvenPairs, CycleNavigation, WordProblem, ReverseString, DuplicateString, OddsFirst, StackManipulation,
    partial(MQAR, pairs=3, vocabulary=16), partial(SelectiveCopying, copied=4), InductionHeads,
]  # fmt: skip
"""Tasks of which a relevant position alone decides targets; in arithmetic, a factor of 0 hides the other ones."""
ARITHMETIC = [ModularArithmetic, BRACKETS]


def name_of(kind):
    if isinstance(kind, partial):
        return "_".join([kind.func.__name__, *kind.keywords])
    return kind.__name__


every_task = pytest.mark.parametrize("kind", [*OLDER, *CERTAIN, *ARITHMETIC], ids=name_of)
every_certain_task = pytest.mark.parametrize("kind", [*OLDER, *CERTAIN], ids=name_of)
SHORTEST = {Agreement: 4}
"""Where the options decide."""


class TestFirst(TaskSuite):
    task = First


FEW = {"examples": 1_000, "held_out": 300}
CHECKED = [
    *OLDER[1:], HMM, EvenPairs, CycleNavigation, ModularArithmetic, WordProblem, ReverseString, DuplicateString,
    OddsFirst, StackManipulation, MQAR, SelectiveCopying, InductionHeads,
]  # fmt: skip


@pytest.mark.parametrize("kind", CHECKED, ids=name_of)
def test_conformance(kind):
    class Quick(TaskSuite):
        task = staticmethod(kind)
        options: ClassVar = FEW
        skips: ClassVar = {"same_in_another_process": "a slow test runs it"} | (
            {"every_option": "a slow test runs it"} if kind is WordProblem else {}
        )

    outcomes = run_suite(Quick)
    assert [outcome for outcome in outcomes if outcome.result not in ("passed", "skipped")] == []


@pytest.mark.slow
@pytest.mark.long  # the groups themselves are held to their axioms by fast tests
def test_conformance_with_every_group():
    class Whole(TaskSuite):
        task = WordProblem
        options: ClassVar = FEW

    (outcome,) = run_suite(Whole, "every_option")
    assert outcome.result == "passed", outcome.detail


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*OLDER[1:], HMM], ids=name_of)
def test_splits_are_the_same_in_another_process(kind):
    class Whole(TaskSuite):
        task = staticmethod(kind)
        options: ClassVar = FEW

    (outcome,) = run_suite(Whole, "same_in_another_process")
    assert outcome.result == "passed"


def drawn(task, count, length, seed=0):
    return task.sequences(count, length, torch.Generator().manual_seed(seed))


def differs(one, other):
    """Say for each row whether anything in it differs."""
    return (one != other).flatten(1).any(1) if one.dim() > 1 else one != other


@every_certain_task
@given(length=st.integers(6, 40), seed=st.integers(0, 99))
def test_the_targets_depend_on_the_relevant_positions_only(kind, length, seed):
    """Perturbing all others changes no target; perturbing a relevant one does."""
    task, generator = kind(), torch.Generator().manual_seed(seed)
    inputs = drawn(task, 50, max(length, task.shortest), seed)
    targets, relevant = task.answer(inputs), task.relevant(inputs)
    others = task.perturb(inputs, ~relevant, generator)
    assert torch.equal(task.answer(others), targets)
    alone = torch.rand(relevant.shape, generator=generator).masked_fill(~relevant, -1).argmax(1)
    where = torch.nn.functional.one_hot(alone, relevant.shape[1]).bool() & relevant  # an empty stack has none
    changed = task.perturb(inputs, where, generator)
    moved = differs(changed, inputs)
    assert moved.any()
    assert torch.equal(differs(task.answer(changed), targets), moved)


@every_certain_task
def test_perturbations_are_where_they_are_asked_for(kind):
    task, generator = kind(), torch.Generator().manual_seed(0)
    inputs = drawn(task, 100, 12)
    where = torch.rand(inputs.shape[:2], generator=generator) < 0.5
    changed = task.perturb(inputs, where, generator)
    different = (changed != inputs).view(*where.shape, -1).any(2)
    assert not different[~where].any()
    assert different[where & task.relevant(inputs)].float().mean() > 0.4


@every_task
def test_the_baseline_and_the_optimum_are_as_stated(kind):
    """The baseline of many sequences is within 3 standard errors of its expectation; true answers are optimal.

    The standard deviation for adding is that of the squared error of a sum of two uniform numbers. Labels of one
    sequence may depend on one another: their error is that of a ratio of means over sequences.
    """
    task = kind()
    count = 5_000 if task.per_step else 20_000
    inputs = drawn(task, count, task.sequence_length)
    targets = task.answer(inputs)
    outputs = task.baseline_outputs(Batch(inputs, None, targets))
    metrics = task.metrics()
    metrics.update(outputs, targets)
    score = float(metrics.compute()[task.monitor])
    chance = task.bounds.chance
    if kind is Adding:
        error = ((1 / 15 - 1 / 36) / count) ** 0.5
    else:
        labelled = (targets > 0 if kind is Copying else targets >= 0).view(count, -1)
        hits = (outputs.argmax(-1) == targets).view(count, -1) & labelled
        error = (hits.sum(1) - chance * labelled.sum(1)).float().std() / labelled.sum(1).float().mean() / count**0.5
    assert abs(score - chance) <= 3 * error
    known = targets.clamp(min=0)
    right = targets.unsqueeze(-1) if kind is Adding else torch.nn.functional.one_hot(known, task.outputs).float()
    metrics = task.metrics()
    metrics.update(right, targets)
    assert float(metrics.compute()[task.monitor]) == task.bounds.optimal
    assert task.solved({task.monitor: task.bounds.optimal})
    assert not task.solved({task.monitor: chance})


@every_task
@given(length=st.integers(6, 60), count=st.integers(1, 9))
def test_any_distance_can_be_sampled(kind, length, count):
    task = kind(sequence_length=max(length, kind().shortest))
    length = task.sequence_length
    examples = task.draw(count, seed=3)
    assert len(examples) == count
    assert (examples.inputs.lengths == examples.inputs.lengths[0]).all()
    assert int(examples.inputs.lengths[0]) >= length
    assert int(examples.inputs.values.max()) < task.inputs.size if task.inputs.kind == "tokens" else True
    if task.per_step:
        assert examples.targets.shape[1] == int(examples.inputs.lengths[0])


@every_task
def test_the_shortest_distance_can_be_sampled(kind):
    shortest = SHORTEST.get(kind, kind().shortest)
    examples = kind(sequence_length=shortest).draw(100, seed=3)
    assert int(examples.inputs.lengths[0]) >= shortest
    assert len(examples.targets.unique()) > 1


@every_task
def test_samples_depend_on_the_seed_only(kind):
    task = kind()
    torch.manual_seed(1)
    one, other = task.draw(40, 7), task.draw(40, 8)
    torch.manual_seed(2)
    again = kind().draw(40, 7)
    assert torch.equal(one.inputs.values, again.inputs.values)
    assert torch.equal(one.targets, again.targets)
    assert not torch.equal(one.inputs.values, other.inputs.values)


@every_task
def test_each_further_distance_has_a_test_split(kind):
    task = kind(examples=10, held_out=20, eval_lengths=[70, 90])
    splits = task.splits()
    assert list(splits)[:5] == ["train", "valid", "test", "length 70", "length 90"]
    assert [len(split) for split in splits.values()][:5] == [10, 20, 20, 20, 20]
    for length in (70, 90):
        steps = int(kind(sequence_length=length).draw(1, 0).inputs.lengths[0])
        assert steps >= length
        assert (splits[f"length {length}"].inputs.lengths == steps).all()


def test_the_bounds_are_reported(tmp_path):
    (row,) = Adding(sequence_length=30).report({}, tmp_path).tables["bounds"]
    assert row["metric"] == "mse"
    assert row["sequence_length"] == 30
    assert row["chance"] == pytest.approx(1 / 6)
    assert (row["optimal"], row["solved"]) == (0.0, 0.01)


def test_the_baseline_loss_of_copying_is_the_papers():
    """10 ln 8 / (T + 20): 0.0204 at T = 1000 (Bai, Kolter & Koltun 2018, table 1)."""
    task = Copying(sequence_length=1000)
    assert task.baseline_loss == pytest.approx(0.0204, abs=5e-5)
    examples = task.draw(200, 0)
    inputs = examples.inputs.padded(torch.arange(200))[0]
    blind = task.baseline_outputs(Batch(inputs, None, examples.targets))
    assert float(task.loss(blind, Batch(inputs, None, examples.targets))) == pytest.approx(10 * math.log(8) / 1020)


QUICK = [
    "trainer.progress=false", "trainer.threads=1", "trainer.early_stopping=null", "logger=none", "task.held_out=500"
]  # fmt: skip


def trained(folder, *overrides):
    return seqlab.run(seqlab.compose([*QUICK, *overrides]), folder)


def test_a_gru_solves_first_at_a_short_distance(tmp_path):
    overrides = ["task=first", "task.sequence_length=5", "task.choices=4", "cell=gru", "cell.hidden_size=16"]
    result = trained(tmp_path / "run", *overrides, "task.examples=4000", "trainer.max_epochs=4", "optimizer.lr=0.02")
    assert result.verdict == "solved"
    assert result.record["tables"]["bounds"][0]["chance"] == 0.25


@pytest.mark.parametrize(("length", "verdict"), [(8, "solved"), (9, "at chance")])
def test_a_window_solves_first_at_its_context_and_not_one_step_further(tmp_path, length, verdict):
    overrides = ["task=first", f"task.sequence_length={length}", "model=window", "model.context=8"]
    result = trained(tmp_path / "run", *overrides, "task.examples=6000", "trainer.max_epochs=2")
    assert result.verdict == verdict


@pytest.mark.long
def test_a_gru_beats_the_baseline_on_adding_over_20_steps(tmp_path):
    overrides = ["task=adding", "task.sequence_length=20", "cell=gru", "cell.hidden_size=32"]
    result = trained(tmp_path / "run", *overrides, "trainer.max_epochs=5", "optimizer.lr=0.01")
    assert result.metrics["mse"] < 0.05 < result.chance["mse"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["attention", "tcn"])
def test_attention_and_tcn_solve_first(tmp_path, model):
    overrides = [
        "task=first",
        "task.sequence_length=20",
        f"model={model}",
        "trainer.max_epochs=3",
        "task.examples=6000",
    ]
    result = trained(tmp_path / "run", *overrides, *(["model.depth=3"] if model == "tcn" else []))
    assert result.verdict == "solved"
