"""Splits keep groups together and labels in proportion, and depend only on names and seed."""

import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.splitting import FRACTIONS, Documents, SplitError, arrange, grouped_split

LABELS = st.integers(0, 4)
OWN = [(f"own-{label}-{index}", label) for label in range(5) for index in range(3)]
ROWS = st.lists(st.tuples(st.text(max_size=3), LABELS), max_size=120).map(lambda rows: [*rows, *OWN])
KNOTS = st.lists(st.tuples(st.sampled_from("abcdefgh"), LABELS), min_size=1, max_size=40)


def split_or_none(rows, **options):
    try:
        return grouped_split([group for group, _ in rows], [label for _, label in rows], **options)
    except SplitError:
        return None


def names(label, count):
    return [(f"{label}-{index}", label) for index in range(count)]


@given(rows=ROWS | KNOTS, seed=st.integers(-1, 2**31))
def test_a_group_stays_together_and_every_label_is_everywhere(rows, seed):
    """Or the split is refused, where labels share all their groups."""
    split = split_or_none(rows, seed=seed)
    if split is None:
        return
    homes, present = defaultdict(set), defaultdict(set)
    for (group, label), where in zip(rows, split.tolist(), strict=True):
        homes[group].add(where)
        present[label].add(where)
    assert all(len(where) == 1 for where in homes.values())
    assert all(where == {0, 1, 2} for where in present.values())


@given(rows=ROWS, seed=st.integers(0, 9), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(rows, seed, shuffle):
    before = split_or_none(rows, seed=seed)
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    after = split_or_none(shuffled, seed=seed)
    by_name = [
        {group: where for (group, _), where in zip(order, split.tolist(), strict=True)}
        for order, split in ((rows, before), (shuffled, after))
    ]
    assert by_name[0] == by_name[1]


@given(counts=st.lists(st.integers(3, 400), min_size=1, max_size=6), shared=st.integers(0, 40), seed=st.integers(0, 9))
def test_fractions_are_exact_while_most_groups_have_one_label(counts, shared, seed):
    """Each label's validation and test hold a tenth, rounded, or at least one row."""
    rows = [row for label, count in enumerate(counts) for row in names(label, count)]
    shared = min(shared, min(counts) // 10)
    rows += [(f"both-{index}", label) for index in range(shared) for label in range(len(counts))]
    split = split_or_none(rows, seed=seed)
    for label, count in enumerate(counts):
        tenth = max(1, int((count + shared) / 10 + 0.5))
        here = Counter(where for (_, of), where in zip(rows, split.tolist(), strict=True) if of == label)
        assert (here[1], here[2]) == (tenth, tenth)


@given(rows=ROWS, seed=st.integers(0, 9))
def test_three_groups_of_its_own_are_enough_for_a_label(rows, seed):
    assert split_or_none(rows, seed=seed) is not None


@pytest.mark.parametrize("count", [1, 2])
def test_a_label_with_fewer_groups_than_splits_is_refused(count):
    with pytest.raises(SplitError) as caught:
        grouped_split(*zip(*[*names(0, 9), *names(1, count)], strict=True))
    assert (caught.value.label, caught.value.groups) == (1, count)


def test_many_rows_of_one_group_are_one_group():
    rows = [("same", 1)] * 50 + [("other", 1)] * 50 + names(0, 9)
    with pytest.raises(SplitError):
        grouped_split(*zip(*rows, strict=True))


def test_labels_that_share_all_their_names_can_still_be_split():
    rows = [(f"n{index}", label) for index in range(3) for label in range(2)]
    assert sorted(grouped_split(*zip(*rows, strict=True)).tolist()) == [0, 0, 1, 1, 2, 2]


def test_impossible_splits_are_refused():
    """1, 2, 3 must differ, and 1, 2, 4 too, so 3 and 4 go together: the third label cannot be in every split."""
    labels = {0: "123", 1: "124", 2: "134"}
    rows = [(name, label) for label, members in labels.items() for name in members]
    with pytest.raises(SplitError):
        grouped_split(*zip(*rows, strict=True))


def test_shared_groups_are_split_in_proportion():
    """A tenth of the names that two labels share goes to each of validation and test, as of all others."""
    shares = []
    for seed in range(20):
        rows = [*names(0, 300), *names(1, 300), *[(f"s{i}", label) for i in range(60) for label in (0, 1)]]
        split = split_or_none(rows, seed=seed)[600::2]
        shares.append(np.bincount(split, minlength=3) / 60)
    np.testing.assert_allclose(np.mean(shares, axis=0), FRACTIONS, atol=0.03)  # 3 standard errors of 1,200 draws


def test_another_seed_splits_anew():
    """Two independent splits differ in 1 - (0.8² + 0.1² + 0.1²) = 0.34 of their rows."""
    rows = names(0, 1000)
    assert (split_or_none(rows, seed=0) != split_or_none(rows, seed=1)).mean() == pytest.approx(0.34, abs=0.05)


def test_other_fractions_and_numbers_of_splits():
    split = grouped_split(*zip(*names(0, 100), strict=True), fractions=(0.5, 0.5))
    assert np.bincount(split).tolist() == [50, 50]
    split = grouped_split(*zip(*names(0, 100), strict=True), fractions=(7, 1, 1, 1))
    assert np.bincount(split).tolist() == [70, 10, 10, 10]


def test_another_process_with_another_hash_seed_splits_alike():
    code = (
        "from seqlab_tasks.splitting import grouped_split as g;"
        "print(g([f'{i % 3}-{i}' for i in range(60)], [i % 3 for i in range(60)], seed=5).tolist())"
    )
    here = grouped_split([f"{i % 3}-{i}" for i in range(60)], [i % 3 for i in range(60)], seed=5).tolist()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(here)


def test_the_split_never_changes():
    """Results of different versions can be compared only while this holds."""
    split = grouped_split([f"name{index}" for index in range(12)], [0, 1] * 6, seed=0)
    assert "".join(map(str, split.tolist())) == "010000200210"


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(["x", "y"])), min_size=20, max_size=60),
    seed=st.integers(0, 5),
)
def test_any_texts_are_split(rows, seed):
    """Whatever the texts, copies included: either each label is in each split and no text in two, or an error."""
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    try:
        found = arrange(Documents(texts, labels), "here", seed)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message.startswith("here")
        return
    parts = {split: {texts[row] for row in rows} for split, rows in found.rows.items()}
    assert sum(map(len, found.rows.values())) == len(rows)
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not parts[one] & parts[other]
    assert all(set(targets) == {0, 1} for targets in found.targets.values())
