"""Runs trained together equal runs by themselves."""

import csv

import pytest
import torch
from torch.utils._pytree import tree_flatten_with_path

import seqlab
from seqlab.runs.run_folder import RESUME
from seqlab.training.replicas.group import train_together

from ...resumable import FAST, record_of

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


def test_ragged_batches_of_unequal_sizes_give_the_weights_of_each_run_after_fifty_steps(names_folder, tmp_path):
    words = [f"task.data_dir={names_folder}", "data.batch_size=8", "trainer.max_epochs=4"]
    runs = alone(words, tmp_path, range(3))
    assert runs[0].cost["steps"] >= 50
    done = together(words, tmp_path, range(3))
    assert [replica.alone for replica in done] == [None] * 3
    assert_equal(tmp_path, range(3))
