"""Dyck words by a stack and closed forms; the hidden Markov source by a filter and its entropy."""

import math
from collections import Counter
from itertools import groupby, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Batch
from seqlab_tasks.synthetic import HMM, Dyck
from seqlab_tasks.synthetic.structure import balanced


def sampled(task, count, length, seed=0):
    inputs = task.sequences(count, length, torch.Generator().manual_seed(seed))
    return inputs, task.answer(inputs)


@given(length=st.integers(1, 60), kinds=st.integers(2, 8), seed=st.integers(0, 99))
def test_dyck_by_a_stack(length, kinds, seed):
    """Every closing bracket matches the top of a stack, and the target is on top at the end."""
    task = Dyck(kinds=kinds)
    inputs, targets = sampled(task, 20, length, seed)
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


def test_balanced_words_are_uniform():
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


def test_dyck_nests_as_deep_as_stated():
    """The mean height of uniform words of 2n steps is sqrt(pi n) - 3/2 (Flajolet & Odlyzko 1982)."""
    opens = balanced(torch.full((2000, 1), 800), 801, torch.Generator().manual_seed(0))[:, :800]
    height = torch.where(opens, 1, -1).cumsum(1).amax(1).float()
    expected = (torch.pi * 400) ** 0.5 - 1.5
    assert abs(float(height.mean()) - expected) < 4 * float(height.std()) / 2000**0.5


def test_the_prefix_of_dyck_varies():
    task = Dyck()
    inputs, _ = sampled(task, 500, 41)
    places = task.relevant(inputs).long().argmax(1)
    assert places.unique().tolist() == [0, 2, 4]
    assert all(abs(one - other) < 60 for one, other in pairwise(torch.bincount(places)[::2].tolist()))


def filtered(row, ones, zero):
    """Return the log-probability of each symbol by the forward algorithm with the true parameters."""
    states = ones
    emit = torch.zeros(2, states, states, dtype=torch.float64)  # [symbol, from, to]
    emit[0, 0, 0] = zero
    emit[1, 0, 1 % states] = 1 - zero
    for state in range(1, states):
        emit[1, state, (state + 1) % states] = 1.0
    belief = torch.zeros(states, dtype=torch.float64)
    belief[0] = 1.0
    logs = []
    for symbol in row:
        joint = belief @ emit[symbol]
        probability = joint.sum()
        logs.append(math.log(probability))
        belief = joint / probability
    return logs


@given(ones=st.integers(2, 9), seed=st.integers(0, 99))
def test_runs_of_ones_are_whole_blocks(ones, seed):
    """Except the last one, which the end may cut."""
    task = HMM(sequence_length=ones, blocks=6)
    inputs, targets = task.generate(20, ones, torch.Generator().manual_seed(seed))
    assert inputs.shape == targets.shape == (20, 6 * ones)
    assert (inputs[:, 0] == 3).all()
    assert torch.equal(inputs[:, 1:] - 1, targets[:, :-1])
    for row in targets.tolist():
        runs = [(symbol, len(list(run))) for symbol, run in groupby(row)]
        assert all(length % ones == 0 for symbol, length in runs[:-1] if symbol == 1)


@pytest.mark.parametrize(("ones", "zero"), [(2, 0.5), (5, 0.5), (7, 0.2)])
def test_the_best_loss_is_that_of_a_filter_with_the_true_parameters(ones, zero):
    """Within 3 standard errors over 400 sequences."""
    task = HMM(sequence_length=ones, zero=zero)
    _, targets = task.generate(400, ones, torch.Generator().manual_seed(0))
    losses = torch.tensor([-sum(filtered(row, ones, zero)) / len(row) for row in targets.tolist()])
    error = float(losses.std()) / len(losses) ** 0.5
    assert abs(float(losses.mean()) - task.bounds.optimal) <= 3 * error
    assert task.solved({"loss": float(losses.mean())})


@pytest.mark.parametrize("zero", [0.2, 0.5])
def test_the_baseline_is_within_3_standard_errors(zero):
    task = HMM(zero=zero)
    inputs, targets = task.generate(4000, 5, torch.Generator().manual_seed(0))
    blind = task.baseline_outputs(Batch(inputs, None, targets))
    losses = torch.nn.functional.cross_entropy(blind.transpose(1, 2), targets, reduction="none").mean(1)
    error = float(losses.std()) / len(losses) ** 0.5
    assert abs(float(losses.mean()) - task.bounds.chance) <= 3 * error


def test_the_even_process_has_its_known_entropy_rate():
    """Two thirds of a bit (Crutchfield & Feldman 2003); a long sequence's best loss comes near it."""
    task = HMM(sequence_length=2, blocks=5000)
    assert task.entropy_rate == pytest.approx(2 / 3 * math.log(2))
    assert task.bounds.optimal == pytest.approx(task.entropy_rate, rel=1e-3)
