"""The hidden Markov source: its blocks, its entropy in closed form against simulation, and a model that knows it."""

import math
from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Batch
from seqlab.testing import TaskSuite
from seqlab_tasks.synthetic import HMM


class TestHMM(TaskSuite):
    task = HMM


def filtered(row, ones, zero):
    """Filter the hidden states with the true parameters: the log-probability of each symbol, by matrices alone."""
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
    """But for the last one, which the end may cut."""
    task = HMM(sequence_length=ones, blocks=6)
    inputs, targets = task.made(20, ones, torch.Generator().manual_seed(seed))
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
    _, targets = task.made(400, ones, torch.Generator().manual_seed(0))
    losses = torch.tensor([-sum(filtered(row, ones, zero)) / len(row) for row in targets.tolist()])
    error = float(losses.std()) / len(losses) ** 0.5
    assert abs(float(losses.mean()) - task.bounds.optimal) <= 3 * error
    assert task.solved({"loss": float(losses.mean())})


@pytest.mark.parametrize("zero", [0.2, 0.5])
def test_chance_is_within_3_standard_errors(zero):
    task = HMM(zero=zero)
    inputs, targets = task.made(4000, 5, torch.Generator().manual_seed(0))
    blind = task.baseline_outputs(Batch(inputs, None, targets))
    losses = torch.nn.functional.cross_entropy(blind.transpose(1, 2), targets, reduction="none").mean(1)
    error = float(losses.std()) / len(losses) ** 0.5
    assert abs(float(losses.mean()) - task.bounds.chance) <= 3 * error


def test_the_even_process_has_its_known_entropy_rate():
    """Two thirds of a bit (Crutchfield & Feldman 2003); a long sequence's best loss comes near it."""
    task = HMM(sequence_length=2, blocks=5000)
    assert task.entropy_rate == pytest.approx(2 / 3 * math.log(2))
    assert task.bounds.optimal == pytest.approx(task.entropy_rate, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 1}, "sequence_length is 1; it must be at least 2"),
        ({"blocks": 0}, "blocks is 0; it must be at least 1"),
        ({"zero": 1.0}, r"zero is 1\.0; it must be above 0 and below 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        HMM(**options)
