"""Folds: a partition that keeps units on one side and divides each label evenly."""

import csv
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.folds import Folds, assign_folds
from seqlab_tasks.names import Names, spelling
from seqlab_tasks.splitting import SPLITS, SplitError, key
from seqlab_tasks.textclf import TextClassification


@st.composite
def examples(draw):
    """Units of one to four rows, most of one label, at least as many of each label as there are folds."""
    folds = draw(st.integers(2, 6))
    rows = [(f"{label} {unit}", label) for label in range(draw(st.integers(2, 4))) for unit in range(folds + 3)]
    copies = draw(st.lists(st.integers(0, len(rows) - 1), max_size=30))
    rows += [rows[row] for row in copies]
    rows += [(f"{row} {row}", draw(st.integers(0, 1))) for row in copies[:3]]
    return draw(st.permutations(rows)), folds


@given(given_rows=examples(), seed=st.integers(0, 3))
def test_each_unit_is_in_one_fold_and_each_label_in_all(given_rows, seed):
    rows, folds = given_rows
    units, labels = zip(*rows, strict=True)
    homes = assign_folds(units, labels, folds, seed)
    where = defaultdict(set)
    for unit, home in zip(units, homes.tolist(), strict=True):
        where[unit].add(home)
    assert all(len(each) == 1 for each in where.values())
    counts = Counter(zip(labels, homes.tolist(), strict=True))
    assert all(counts[label, fold] for label in set(labels) for fold in range(folds))
    order = np.random.default_rng(seed).permutation(len(rows))
    moved = assign_folds([units[row] for row in order], [labels[row] for row in order], folds, seed)
    assert moved.tolist() == homes[order].tolist()


@given(sizes=st.lists(st.integers(7, 60), min_size=2, max_size=5), folds=st.integers(2, 7), seed=st.integers(0, 5))
def test_single_rows_are_divided_to_within_one(sizes, folds, seed):
    """Of each label, and of all rows."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    homes = assign_folds([str(row) for row in range(len(labels))], labels, folds, seed)
    for rows in (labels == label for label in range(len(sizes))):
        found = np.bincount(homes[rows], minlength=folds)
        assert found.max() - found.min() <= 1
    whole = np.bincount(homes, minlength=folds)
    assert whole.max() - whole.min() <= len(sizes)


def test_too_few_units_of_a_label_are_an_error():
    with pytest.raises(SplitError) as caught:
        assign_folds(["a", "b", "c", "d", "x", "x", "x"], [0, 0, 0, 0, 1, 1, 1], 2)
    assert (caught.value.label, caught.value.groups) == (1, 1)


def write(path, rows=60):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"text {row % 50}", "ab"[row % 2]] for row in range(rows))
        writer.writerow(["  ", "a"])
    return str(path)


def keys_of(task, units):
    return {name: sorted(map(units, split.inputs)) for name, split in task.splits().items()}


@pytest.mark.parametrize("kind", ["table", "names"])
def test_the_test_splits_of_all_folds_are_all_rows(kind, tmp_path):
    """Each row once; and no unit is on two sides."""
    if kind == "table":
        path = write(tmp_path / "table.csv")
        make, units = (lambda **options: TextClassification(data=path, **options)), key
    else:
        make, units = Names, spelling
    parts = [keys_of(make(folds=4, fold=fold), units) for fold in range(4)]
    whole = sorted(text for split in keys_of(make(), units).values() for text in split)
    assert sorted(text for part in parts for text in part["test"]) == whole
    for part in parts:
        assert sorted(text for split in SPLITS for text in part[split]) == whole
        assert not any(set(part[one]) & set(part[other]) for one, other in (SPLITS[:2], SPLITS[1:], SPLITS[::2]))
        assert 0.05 < len(part["valid"]) / len(whole) < 0.11
        assert len(part["test"]) == pytest.approx(len(whole) / 4, rel=0.1)
    refit = keys_of(make(folds=4, refit=True), units)
    assert refit["train"] == whole
    assert refit["valid"] == refit["test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 1}, r"fold=1 needs folds"),
        ({"refit": True}, r"refit=true needs folds"),
        ({"folds": 1}, r"folds must be >= 2, got 1"),
        ({"folds": 3, "fold": 3}, r"fold must be .*, got 3"),
        ({"folds": 3, "fold": 1, "refit": True}, r"refit=true trains on all rows, but fold=1"),
    ],
)
def test_contradictions_name_the_keys(options, message):
    for task in (TextClassification, Names):
        with pytest.raises(ValueError, match=message):
            task(**options)


def test_a_single_run_names_its_fold_and_data_that_fit(tmp_path):
    path = write(tmp_path / "table.csv", 12)
    with pytest.raises(ValueError, match=r"task\.folds=3 has no task\.fold; .* 0 to 2"):
        TextClassification(data=path, folds=3).splits()
    with pytest.raises(ValueError, match=r"the label 'a' has 6 different examples, too few for each of task\.folds=7"):
        TextClassification(data=path, folds=7, fold=0).splits()
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / "given" / split / label).mkdir(parents=True)
            for number in range(5):
                (tmp_path / "given" / split / label / f"{number}.txt").write_text(f"{split} {label} {number}")
    with pytest.raises(ValueError, match="has given splits"):
        TextClassification(data_dir=str(tmp_path / "given"), folds=3, fold=0).splits()
    assert Folds(3, 0).notes() == ["test is fold 0 of 3 (0 to 2)"]
