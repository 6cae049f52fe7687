"""Recall by a dictionary, selective copying by a filter, induction heads by searching text."""

from collections import Counter
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab_tasks.synthetic import MQAR, InductionHeads, SelectiveCopying
from seqlab_tasks.synthetic.associative import distinct


def sampled(task, count, length, seed=0):
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    return [[task.symbols[token - 1] for token in row] for row in inputs.tolist()], task.answer(inputs).tolist()


@given(pairs=st.integers(1, 8), extra=st.integers(0, 30), more=st.integers(2, 20), seed=st.integers(0, 99))
def test_queries_are_looked_up_in_a_dictionary(pairs, extra, more, seed):
    length = 4 * pairs + extra
    task = MQAR(length, pairs=pairs, vocabulary=2 * pairs + more)
    for symbols, targets in zip(*sampled(task, 10, length, seed), strict=True):
        assert len(symbols) == length
        end = 2 * pairs
        table = dict(zip(symbols[0:end:2], symbols[1:end:2], strict=True))
        assert len(table) == len(set(table.values())) == pairs
        assert targets[:end] == [-1] * end
        asked = []
        for place in range(end, length):
            if symbols[place].startswith("k"):
                assert (place - end) % 2 == 0
                asked.append(symbols[place])
                assert task.labels[targets[place]] == table[symbols[place]]
            else:
                assert targets[place] == -1
        assert sorted(asked) == sorted(table)


def test_slots_of_queries_follow_the_power_law():
    """With one pair, slot i has a share proportional to i^(a-1), within 4 standard deviations."""
    for power in (0.01, 1.0):
        task = MQAR(12, pairs=1, vocabulary=8, power=power)
        inputs = task.sequences(20_000, 12, torch.Generator().manual_seed(0))
        counts = torch.bincount((inputs[:, 2:] < 4).long().argmax(1) // 2, minlength=5)
        weight = torch.arange(1, 6, dtype=torch.float64) ** (power - 1)
        expected = 20_000 * weight / weight.sum()
        assert ((counts - expected).abs() < 4 * (expected * (1 - expected / 20_000)).sqrt()).all()


def test_every_key_is_drawn_and_every_value_is_an_answer():
    task = MQAR(16, pairs=2, vocabulary=14)
    rows, targets = sampled(task, 400, 16)
    assert {symbol for row in rows for symbol in row} == set(task.symbols)
    assert {label for row in targets for label in row} == {-1, *range(7)}


def test_distinct_integers_are_uniform():
    """All 60 arrangements of 3 of 5 integers, each within 4 standard deviations of its share."""
    found = Counter(map(tuple, distinct(30_000, 3, 5, torch.Generator().manual_seed(0)).tolist()))
    assert set(found) == set(permutations(range(5), 3))
    assert max(abs(count - 500) for count in found.values()) < 4 * 500**0.5


@given(copied=st.integers(1, 10), noise=st.integers(0, 30), vocabulary=st.integers(4, 20), seed=st.integers(0, 99))
def test_symbols_are_copied_in_their_order(copied, noise, vocabulary, seed):
    length = copied + noise
    task = SelectiveCopying(length, copied=copied, vocabulary=vocabulary)
    for symbols, targets in zip(*sampled(task, 10, length, seed), strict=True):
        kept = [symbol for symbol in symbols if symbol not in "_:"]
        assert symbols[length:] == [":"] * copied
        assert ":" not in symbols[:length]
        assert targets[:length] == [-1] * length
        assert [task.labels[target] for target in targets[length:]] == kept
    assert task.inputs.size == vocabulary + 1  # with the padding


def test_the_setting_of_the_paper_can_be_drawn():
    """4,096 steps with 16 symbols and a vocabulary of 16; 256 steps with a vocabulary of 16."""
    examples = SelectiveCopying(4096, examples=10, held_out=10).draw(3, 0)
    assert examples.targets.shape == (3, 4096 + 16)
    assert (examples.targets >= 0).sum(1).tolist() == [16] * 3
    task = InductionHeads()
    assert int(task.draw(1, 0).inputs.lengths[0]) == 256
    assert task.inputs.size == 16 + 1
    assert task.draw(2, 0, 2**20).inputs.lengths.tolist() == [2**20] * 2


def test_positions_of_symbols_are_uniform():
    """Within 4 standard deviations."""
    inputs = SelectiveCopying(8, copied=2).sequences(8_000, 8, torch.Generator().manual_seed(0))
    counts = (inputs[:, :8] < 15).sum(0)
    assert ((counts - 2000).abs() < 4 * (2000 * 0.75) ** 0.5).all()


@given(length=st.integers(3, 60), vocabulary=st.integers(3, 20), seed=st.integers(0, 99))
def test_induction_by_searching_text(length, vocabulary, seed):
    task = InductionHeads(vocabulary=vocabulary)
    for symbols, target in zip(*sampled(task, 10, length, seed), strict=True):
        text = "".join(symbols)
        assert len(text) == length
        assert text.count(":") == 2
        assert text[-1] == ":"
        assert task.labels[target] == text[text.index(":") + 1]


def test_the_mark_is_anywhere_and_every_symbol_an_answer():
    task = InductionHeads()
    inputs = task.sequences(2_000, 9, torch.Generator().manual_seed(0))
    assert set((inputs == 16).long().argmax(1).tolist()) == set(range(7))
    assert set(task.answer(inputs).tolist()) == set(range(15))


@pytest.mark.parametrize("pairs", [1, 4])
def test_the_optimum_needs_the_pairs(pairs):
    """Values swapped among the pairs change the answers."""
    task = MQAR(32, pairs=pairs, vocabulary=32)
    inputs = task.sequences(50, 32, torch.Generator().manual_seed(0))
    turned = inputs.clone()
    turned[:, 1 : 2 * pairs : 2] = inputs[:, 1 : 2 * pairs : 2].roll(1, 1)
    assert torch.equal(task.answer(inputs), task.answer(turned)) == (pairs == 1)
