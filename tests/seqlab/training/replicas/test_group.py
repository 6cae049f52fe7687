"""Runs trained together equal runs by themselves."""

import csv
import logging
import os
import signal
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_flatten_with_path

import seqlab
from seqlab.contracts import Batch
from seqlab.distributed.signals import StoppedError
from seqlab.runs.run_folder import RESUME
from seqlab.training.module import SequenceModule
from seqlab.training.replicas.group import Group, train_together
from seqlab.training.replicas.losses import stacked_batches

from ...resumable import FAST, record_of, weights_of

EXACT = [*FAST, "trainer.precision=64-true", "kernel=loop", "logger=csv", "trainer.accelerator=cpu"]


def config(words, number, *more):
    return seqlab.compose([*EXACT, *words, f"seed={number}", f"optimizer.lr={0.002 * (1 + number)}", *more])


def alone(words, folder, numbers):
    return [seqlab.run(config(words, number), folder / f"alone{number}") for number in numbers]


def together(words, folder, numbers, *more):
    def job(number):
        return lambda: seqlab.run(config(words, number, *more), folder / f"together{number}")

    return train_together([job(number) for number in numbers])


def saved(folder):
    found = torch.load(folder / RESUME, weights_only=True)
    for state in found["callbacks"]["RunCheckpoint"]["rng"]:
        del state["python"]  # the shape checks of the tests draw from it
    del found["run"]["config"]["ckpt_path"], found["callbacks"]["Cost"]["replicas"]
    return found


def rows_of(path):
    with path.open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def assert_equal(folder, numbers, tolerance=1e-12):
    """Weights, optimiser, counters and scores of each run are those of the run by itself."""
    for number in numbers:
        one, other = (saved(folder / f"{name}{number}") for name in ("alone", "together"))
        (first, shape), (second, same_shape) = tree_flatten_with_path(one), tree_flatten_with_path(other)
        assert shape == same_shape
        for (path, a), (_, b) in zip(first, second, strict=True):
            if isinstance(a, torch.Tensor):
                assert (a.dtype, a.shape) == (b.dtype, b.shape), path
                assert torch.allclose(a.double(), b.double(), rtol=0, atol=tolerance), path
            elif isinstance(a, float) and "seconds" not in str(path[-1]):
                assert a == pytest.approx(b, abs=1e-9), path
            elif not isinstance(a, float):
                assert a == b, path
        rows, others = (
            rows_of(folder / f"{name}{number}" / "curves" / "metrics.csv") for name in ("alone", "together")
        )
        assert others == [pytest.approx(row, abs=1e-6) for row in rows]
        a, b = (record_of(folder / f"{name}{number}") for name in ("alone", "together"))
        for key in ("metrics", "chance"):
            assert b[key] == {split: pytest.approx(values, abs=1e-6) for split, values in a[key].items()}
        assert (b["best"], b["verdict"]) == (pytest.approx(a["best"], abs=1e-6), a["verdict"])
        assert b["history"] == a["history"]


@pytest.mark.slow
def test_ragged_batches_of_unequal_sizes_give_the_weights_of_each_run_after_fifty_steps(names_folder, tmp_path):
    words = [f"task.data_dir={names_folder}", "data.batch_size=8", "trainer.max_epochs=4"]
    runs = alone(words, tmp_path, range(3))
    assert runs[0].cost["steps"] >= 50
    done = together(words, tmp_path, range(3))
    assert [replica.alone for replica in done] == [None] * 3
    assert [replica.result.cost["replicas"] for replica in done] == [3] * 3
    assert_equal(tmp_path, range(3))


GENERATED = ["task=adding", "task.sequence_length=4", "task.examples=128", "task.held_out=32", "data.batch_size=32"]


def test_runs_stop_by_themselves_and_the_others_go_on(tmp_path):
    runs = [config([*GENERATED, f"trainer.max_epochs={3 - number}"], number) for number in range(3)]
    for number, each in enumerate(runs):
        seqlab.run(each, tmp_path / f"alone{number}")
    done = train_together([partial(seqlab.run, each, tmp_path / f"together{n}") for n, each in enumerate(runs)])
    assert [replica.result.cost["epochs"] for replica in done] == [3, 2, 1]
    assert_equal(tmp_path, range(3))


@pytest.mark.parametrize("task", ["word_problem", "first"])
def test_lengths_that_each_run_draws_for_itself_are_padded(tmp_path, task):
    """With one output per step, and with one per sequence; the ceilings of the curricula may differ, too."""
    words = [f"task={task}", "task.lengths=curriculum", "task.sequence_length=9", "task.start_length=4",
             "task.check_every=4", "task.held_out=16", "task.examples=64", "data.batch_size=8",
             "trainer.max_epochs=null", "trainer.max_steps=12"]  # fmt: skip
    alone(words, tmp_path, range(3))
    stacks = []

    def counted(batches):
        stacks.append(stacked_batches(batches))
        return stacks[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqlab.training.replicas.group.stacked_batches", counted)
        done = together(words, tmp_path, range(3))
    assert [replica.alone for replica in done] == [None] * 3
    assert {len(each) for each in stacks} == {1}
    assert any(each[0].lengths is not None for each in stacks), "some batches had unequal lengths"
    assert_equal(tmp_path, range(3))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
def test_every_batch_is_in_one_stack_of_similar_lengths(lengths):
    batches = [Batch(torch.ones(2, steps, dtype=torch.int64), None, torch.zeros(2, steps)) for steps in lengths]
    stacks = stacked_batches(batches)
    assert sorted(place for each in stacks for place in each.places) == list(range(len(lengths)))
    for each in stacks:
        own = [lengths[place] for place in each.places]
        assert max(own) <= max(32, 2 * min(own))
        assert (each.lengths is None) == (each.targets is not None) == (len(set(own)) == 1)
        if each.lengths is not None:
            assert each.lengths.tolist() == [[steps] * 2 for steps in own]
            assert each.inputs.sum(2).tolist() == [[steps] * 2 for steps in own]


def test_an_error_of_the_first_batch_is_that_of_its_run(tmp_path, monkeypatch):
    """The others train on, the last of them by itself, and no batch is lost."""
    from seqlab_tasks.synthetic.distance import Adding

    words = [*GENERATED, "trainer.max_epochs=1"]
    alone(words, tmp_path, [1])
    loss, count = Adding.loss, iter(range(10**6))

    def failing(self, outputs, batch):
        if next(count) == 0:
            raise IndexError("no such class")
        return loss(self, outputs, batch)

    monkeypatch.setattr(Adding, "loss", failing)
    done = together(words, tmp_path, range(2))
    assert isinstance(done[0].turn.error, IndexError)
    assert done[1].turn.error is None
    assert_equal(tmp_path, [1], tolerance=0)


def test_a_parameter_without_a_gradient_trains_by_itself(tmp_path, monkeypatch):
    from seqlab.training import session

    build = session.build_model

    def with_unused(*given):
        model = build(*given)
        model.unused = torch.nn.Parameter(torch.ones(3))
        return model

    monkeypatch.setattr(session, "build_model", with_unused)
    words = [*GENERATED, "trainer.max_epochs=1"]
    alone(words, tmp_path, range(2))
    done = together(words, tmp_path, range(2))
    assert all("cannot be batched" in replica.alone for replica in done)
    assert_equal(tmp_path, range(2), tolerance=0)


def test_the_log_of_each_run_says_why_it_trains_by_itself(tmp_path):
    from seqlab.runs.ownership import LOG, logging_to

    def job(number):
        folder = tmp_path / f"run{number}"
        with logging_to(folder):
            seqlab.run(config([*GENERATED, "trainer.max_epochs=1", "model.output_dropout=0.5"], number), folder)

    for number in range(2):
        (tmp_path / f"run{number}").mkdir()
    logging.getLogger("seqlab").setLevel(logging.INFO)
    done = train_together([partial(job, number) for number in range(2)])
    assert [replica.turn.error for replica in done] == [None] * 2
    for number in range(2):
        lines = (tmp_path / f"run{number}" / LOG).read_text()
        assert f"run{number} trains by itself: its model draws random numbers" in lines
        assert f"run{1 - number} " not in lines


class CrashError(Exception):
    """The process died."""


@pytest.fixture
def in_float64():
    """Of a run with trainer.precision=64-true, Lightning would load the checkpoint into a model of float32."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_run_with_wandb_trains_by_itself():
    """wandb would log the curves of all runs of a process to the first one, and its end would end all."""
    from types import SimpleNamespace

    from seqlab.training.replicas.replica import _refusal

    plain = {"accumulate_grad_batches": 1, "profiler": None, "precision": "32-true"}
    session = SimpleNamespace(config={"trainer": plain, "logger": {"name": "wandb"}})
    assert "logger=wandb" in (_refusal(session, SimpleNamespace(world_size=1)) or "")


@pytest.mark.slow
@pytest.mark.usefixtures("in_float64")
def test_a_crash_within_an_epoch_resumes_together_or_alone_to_the_same_weights(tmp_path, monkeypatch):
    words = [*GENERATED, "trainer.max_epochs=3", "trainer.checkpoint_minutes=0", "trainer.precision=32-true"]
    alone(words, tmp_path, range(3))
    step, count = Group._step, iter(range(100))

    def crash(self, *given):
        if next(count) == 6:  # within the second epoch, with a checkpoint of every step
            raise CrashError
        step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Group, "_step", crash)
        done = together(words, tmp_path, range(3))
    assert {type(replica.turn.error) for replica in done} == {CrashError}
    assert saved(tmp_path / "together0")["global_step"] == 6
    together(words, tmp_path, range(2), "ckpt_path=last")
    resumed = seqlab.run(config(words, 2, "ckpt_path=last"), tmp_path / "together2")
    assert resumed.cost["replicas"] == 3, "it trained with others before"
    assert_equal(tmp_path, range(3))


def test_a_model_that_draws_random_numbers_trains_by_itself_to_the_same_weights(tmp_path):
    words = [*GENERATED, "trainer.max_epochs=1", "model.output_dropout=0.5"]
    alone(words, tmp_path, range(2))
    done = together(words, tmp_path, range(2))
    assert all("random numbers" in replica.alone for replica in done)
    assert_equal(tmp_path, range(2), tolerance=0)


def test_a_time_budget_counts_the_share_of_each_run(tmp_path):
    """Runs that train by themselves, one after another, have the whole of it each."""
    words = [*GENERATED, "trainer.max_epochs=null", "trainer.max_minutes=0.01", "model.output_dropout=0.5"]
    done = together(words, tmp_path, range(3))
    assert [replica.turn.error for replica in done] == [None] * 3
    steps = [replica.result.cost["steps"] for replica in done]
    assert min(steps) > 0.2 * max(steps) > 1


def test_a_run_that_fails_ends_alone(tmp_path):
    """One loss is not finite: that run reports it, the others are as by themselves."""
    words = [*GENERATED, "trainer.max_epochs=1"]
    alone(words, tmp_path, range(2))
    runs = [config(words, number) for number in range(2)] + [config(words, 2, "optimizer.lr=1e200")]
    done = train_together([partial(seqlab.run, run, tmp_path / f"together{n}") for n, run in enumerate(runs)])
    assert [replica.turn.error for replica in done[:2]] == [None, None]
    assert "set a lower optimizer.lr" in str(done[2].turn.error)
    assert_equal(tmp_path, range(2))


def test_a_signal_stops_runs_that_train_by_themselves(tmp_path, monkeypatch):
    """Only the main thread can handle it, and it waits meanwhile."""
    step, count = SequenceModule.training_step, iter(range(10**6))

    def signalled(self, *given):
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *given)

    monkeypatch.setattr(SequenceModule, "training_step", signalled)
    done = together([*GENERATED, "trainer.max_epochs=30", "model.output_dropout=0.5"], tmp_path, range(2))
    assert [type(replica.turn.error) for replica in done] == [StoppedError] * 2
    assert all(saved(tmp_path / f"together{number}")["global_step"] < 30 for number in range(2))


@pytest.mark.slow
def test_fused_in_float32_agrees_after_fifty_steps(tmp_path):
    words = [*GENERATED, "task.examples=544", "trainer.max_epochs=3", "kernel=fused", "trainer.precision=32-true"]
    runs = alone(words, tmp_path, range(3))
    assert runs[0].cost["steps"] >= 50
    done = together(words, tmp_path, range(3))
    assert [replica.alone for replica in done] == [None] * 3
    assert {replica.result.record["kernel"]["kernel"] for replica in done} == {"fused"}
    for number in range(3):
        one, other = (weights_of(tmp_path / f"{name}{number}") for name in ("alone", "together"))
        assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-5) for name in one)
