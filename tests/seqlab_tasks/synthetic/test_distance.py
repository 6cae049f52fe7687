"""The sequences of adding, copying, temporal order and recall have the form of their papers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.synthetic import Adding, Copying, Recall, TemporalOrder


def sampled(task, count, length, seed=0):
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    return inputs, task.answer(inputs)


@pytest.mark.parametrize("marks", ["halves", "anywhere"])
@given(length=st.integers(2, 30))
def test_adding_marks_two_numbers(marks, length):
    inputs, targets = sampled(Adding(marks=marks), 64, length)
    for (values, flags), target in zip(inputs.transpose(1, 2).tolist(), targets.tolist(), strict=True):
        places = [place for place, flag in enumerate(flags) if flag]
        assert len(places) == 2
        assert target == pytest.approx(sum(values[place] for place in places), abs=1e-6)
        if marks == "halves":
            assert places[0] < length // 2 <= places[1]


def test_copying_is_the_papers():
    """T + 20 steps: 10 symbols, T - 1 blanks, the delimiter, 10 blanks; targets T + 10 blanks and the symbols."""
    inputs, targets = sampled(Copying(), 5, 7)
    for row, answer in zip(inputs.tolist(), targets.tolist(), strict=True):
        symbols = row[:10]
        assert set(symbols) <= set(range(1, 9))
        assert row[10:] == [9] * 6 + [10] + [9] * 10
        assert answer == [0] * 17 + symbols


@given(length=st.integers(5, 120))
def test_temporal_order_places_two_events(length):
    task = TemporalOrder()
    inputs, targets = sampled(task, 64, length)
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
    inputs, targets = sampled(task, 200, 9)
    for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        words = [task.symbols[token - 1] for token in row]
        table = dict(zip(words[:8:2], words[1:8:2], strict=True))
        assert len(table) == len(set(table.values())) == 4
        assert all(word.startswith("z") for word in words[8:-1])
        assert len(words) == 18
        assert table[words[-1]] == task.labels[target]
