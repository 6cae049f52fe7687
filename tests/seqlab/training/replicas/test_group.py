"""Runs trained together equal runs by themselves."""

import csv
from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_flatten_with_path

import seqlab
from seqlab.runs.run_folder import RESUME
from seqlab.training.replicas.group import Group, train_together

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
    del found["run"]["config"]["ckpt_path"]
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


class CrashError(Exception):
    """The process died."""


@pytest.fixture
def in_float64():
    """Of a run with trainer.precision=64-true, Lightning would load the checkpoint into a model of float32."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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
    seqlab.run(config(words, 2, "ckpt_path=last"), tmp_path / "together2")
    assert_equal(tmp_path, range(3))


def test_a_model_that_draws_random_numbers_trains_by_itself_to_the_same_weights(tmp_path):
    words = [*GENERATED, "trainer.max_epochs=1", "model.output_dropout=0.5"]
    alone(words, tmp_path, range(2))
    done = together(words, tmp_path, range(2))
    assert all("random numbers" in replica.alone for replica in done)
    assert_equal(tmp_path, range(2), tolerance=0)


def test_a_run_that_fails_ends_alone(tmp_path):
    """One loss is not finite: that run reports it, the others are as by themselves."""
    words = [*GENERATED, "trainer.max_epochs=1"]
    alone(words, tmp_path, range(2))
    runs = [config(words, number) for number in range(2)] + [config(words, 2, "optimizer.lr=1e200")]
    done = train_together([partial(seqlab.run, run, tmp_path / f"together{n}") for n, run in enumerate(runs)])
    assert [replica.turn.error for replica in done[:2]] == [None, None]
    assert "set a lower optimizer.lr" in str(done[2].turn.error)
    assert_equal(tmp_path, range(2))


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
