"""Comparison of two sets of runs, paired by seed."""

import pytest

from seqlab import UserError
from seqlab.study.compare import compare, read_sides
from seqlab.study.intervals import student_interval


def compared(a, b, metric=None, within=None):
    first, second = read_sides(str(a), str(b), within)
    return compare(first, second, metric, within_one=within is not None)


def test_differences_are_paired_by_seed(sweep, record):
    """The seeds differ by far more than the cells: only pairs show it."""
    base = [0.2, 0.5, 0.9, 0.4, 0.7]
    a = sweep("a", [record("lstm", seed=seed, score=value) for seed, value in enumerate(base)])
    b = sweep("b", [record("gru", seed=seed, score=v + 0.05 + seed / 1000) for seed, v in enumerate(base)][::-1])
    found = compared(a, b)
    assert [pair.difference for pair in found.pairs] == pytest.approx([0.05, 0.051, 0.052, 0.053, 0.054])
    expected = student_interval([0.05, 0.051, 0.052, 0.053, 0.054])
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    assert found.differences == {"cell.name": ("lstm", "gru")}
    assert f"{b} is better than {a} by 0.052" in found.verdict()
    assert "fewer" not in found.verdict()


def test_distances_of_a_seed_are_averaged(sweep, record):
    a = sweep("a", [record("lstm", at, seed, 0.5) for at in (4, 8) for seed in (0, 1)])
    b = sweep("b", [record("gru", at, seed, 0.5 + at / 100 + seed / 10) for at in (4, 8) for seed in (0, 1)])
    found = compared(a, b)
    assert len(found.pairs) == 4
    expected = student_interval([0.06, 0.16])
    assert found.interval.count == 2
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    assert "cannot be told apart" in found.verdict()
    assert "fewer than 5 seeds" in found.verdict()


def test_unpaired_runs_are_named(sweep, record):
    a = sweep("a", [record("lstm", seed=seed) for seed in (0, 1, 2)])
    b = sweep("b", [record("gru", seed=seed) for seed in (1, 2, 3)])
    found = compared(a, b)
    assert [pair.shared for pair in found.pairs] == [{"seed": "1"}, {"seed": "2"}]
    assert [line.partition(" ")[2] for line in found.unpaired] == [
        f"(seed=0): {b} has no run with these settings",
        f"(seed=3): {a} has no run with these settings",
    ]
    assert "score the same in every pair" in found.verdict()


def test_an_error_is_better_when_smaller(sweep, record):
    made = [record(cell, seed=seed, score=0.5) for cell in ("rnn", "gru") for seed in range(3)]
    for place, each in enumerate(made):
        each["metrics"]["valid"]["loss"] = 1.0 + (place >= 3) + place / 100
        each["metrics"]["valid"]["odd"] = 2.0 - (place >= 3)
    folder = sweep("a", made)
    assert "rnn is better than gru by 1.03" in compared("rnn", "gru", "loss", folder).verdict()
    found = compared("rnn", "gru", "odd", folder)
    assert "rnn is higher than gru by 1" in found.verdict()
    with pytest.raises(UserError, match="no such metric; there are accuracy, loss, odd"):
        compared("rnn", "gru", "f1", folder)
    with pytest.raises(UserError, match=r"no label 'lstm'.* 'rnn', 'gru'"):
        compared("rnn", "lstm", None, folder)


def test_one_pair_has_no_interval(sweep, record):
    a, b = sweep("a", [record("lstm", score=0.5)]), sweep("b", [record("gru", score=0.7)])
    said = compared(a / "run_0", b).verdict()
    assert said.startswith("validation accuracy: B - A is +0.2 with a single seed; run more seeds")


def test_incomparable_runs_are_refused(sweep, record):
    a = sweep("a", [record("lstm")])
    for other, said in (
        ([record("gru", trainer__max_epochs=99)], "trainer.max_epochs is 1 and 99"),
        ([record("gru", 9)], "task.sequence_length is 4 and 9"),
        ([record("gru", seed=5)], "has a partner"),
    ):
        b = sweep("b", other)
        with pytest.raises(UserError, match=said) as caught:
            compared(a, b)
        assert "\n" not in str(caught.value)
    made = record("gru")
    made["config"]["task"]["name"] = "adding"
    with pytest.raises(UserError, match="tasks adding and first"):
        compared(a, sweep("c", [made]))
    with pytest.raises(UserError, match=r"several runs for one of the other side, which differ in cell.odd"):
        compared(a, sweep("d", [record("gru", cell__odd=size) for size in (3, 4)]))
    with pytest.raises(UserError, match="no finished run"):
        compared(a, sweep("e", [], missing=["x"]))


def test_a_sweep_may_vary_its_budget_on_purpose(sweep, record):
    made = [record(seed=seed, score=epochs / 10, trainer__max_epochs=epochs) for seed in (0, 1) for epochs in (1, 9)]
    found = compared("gru max_epochs=1", "gru max_epochs=9", None, sweep("a", made))
    assert found.differences == {"trainer.max_epochs": ("1", "9")}
    assert found.interval.mean == pytest.approx(0.8)
