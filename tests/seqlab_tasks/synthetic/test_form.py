"""Each task's sequences have the form that its source gives them."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.synthetic import Adding, Copying, Dyck, Recall, TemporalOrder
from seqlab_tasks.synthetic.dyck import balanced


def drawn(task, count, length, seed=0):
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    return inputs, task.answer(inputs)


@pytest.mark.parametrize("marks", ["halves", "anywhere"])
@given(length=st.integers(2, 30))
def test_adding_marks_two_numbers(marks, length):
    inputs, targets = drawn(Adding(marks=marks), 64, length)
    for (values, flags), target in zip(inputs.transpose(1, 2).tolist(), targets.tolist(), strict=True):
        places = [place for place, flag in enumerate(flags) if flag]
        assert len(places) == 2
        assert target == pytest.approx(sum(values[place] for place in places), abs=1e-6)
        if marks == "halves":
            assert places[0] < length // 2 <= places[1]


def test_copying_is_the_papers():
    """T + 20 steps: 10 symbols, T - 1 blanks, the delimiter, 10 blanks; targets T + 10 blanks and the symbols."""
    inputs, targets = drawn(Copying(), 5, 7)
    for row, answer in zip(inputs.tolist(), targets.tolist(), strict=True):
        symbols = row[:10]
        assert set(symbols) <= set(range(1, 9))
        assert row[10:] == [9] * 6 + [10] + [9] * 10
        assert answer == [0] * 17 + symbols


@given(length=st.integers(5, 120))
def test_temporal_order_places_two_events(length):
    task = TemporalOrder()
    inputs, targets = drawn(task, 64, length)
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        word = "".join(task.symbols[token - 1] for token in row)
        first, second = (place for place, letter in enumerate(word) if letter in "XY")
        assert max(1, length // 10) <= first <= length // 5
        assert 4 * length // 10 <= second <= length // 2
        assert word[0] + word[-1] == "EB"
        assert set(word) <= set("abcdXYEB")
        assert task.labels[target] == word[first] + word[second]


def test_recall_looks_up():
    task = Recall(pairs=4)
    inputs, targets = drawn(task, 200, 9)
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        words = [task.symbols[token - 1] for token in row]
        table = dict(zip(words[:8:2], words[1:8:2], strict=True))
        assert len(table) == len(set(table.values())) == 4
        assert all(word.startswith("z") for word in words[8:-1])
        assert len(words) == 18
        assert table[words[-1]] == task.labels[target]


@given(length=st.integers(1, 60), kinds=st.integers(2, 8), seed=st.integers(0, 99))
def test_dyck_by_a_stack(length, kinds, seed):
    """Read with a stack, every closing bracket fits, and the target is on top at the end."""
    task = Dyck(kinds=kinds)
    inputs, targets = drawn(task, 20, length, seed)
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        stack = []
        for place, token in enumerate(row):
            if token <= kinds:
                stack.append((token, place))
            else:
                assert stack.pop()[0] == token - kinds
        kind, place = stack[-1]
        assert kind - 1 == target
        assert place <= max(length // 10, (length - 1) % 2)


def test_balanced_words_are_all_as_frequent():
    """All 14 words of length 8 (the fourth Catalan number), each within 4 standard deviations of its share."""
    count = 28_000
    opens = balanced(torch.full((count, 1), 8), 12, torch.Generator().manual_seed(0))[:, :8]
    words = Counter(map(tuple, opens.tolist()))
    assert len(words) == 14
    for word in words:
        heights = [sum(1 if up else -1 for up in word[:end]) for end in range(9)]
        assert min(heights) == heights[-1] == 0
    mean = count / 14
    assert max(abs(found - mean) for found in words.values()) < 4 * (mean * 13 / 14) ** 0.5


def test_dyck_nests_about_as_deep_as_stated():
    """The mean height of uniform words of 2n steps is sqrt(pi n) - 3/2 (Flajolet & Odlyzko 1982)."""
    opens = balanced(torch.full((2000, 1), 800), 801, torch.Generator().manual_seed(0))[:, :800]
    height = torch.where(opens, 1, -1).cumsum(1).amax(1).float()
    expected = (torch.pi * 400) ** 0.5 - 1.5
    assert abs(float(height.mean()) - expected) < 4 * float(height.std()) / 2000**0.5


def test_the_prefix_of_dyck_varies():
    task = Dyck()
    inputs, _ = drawn(task, 500, 41)
    places = task.necessary(inputs).long().argmax(1)
    assert places.unique().tolist() == [0, 2, 4]
    assert all(abs(one - other) < 60 for one, other in pairwise(torch.bincount(places)[::2].tolist()))
