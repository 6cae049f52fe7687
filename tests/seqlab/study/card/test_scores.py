"""Bits by arithmetic, and intervals that stay within the limits of a metric."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.study.card.scores import recalled_bits, score_interval, state_bits
from seqlab.study.intervals import Range

SHARE = Range(0.0, 1.0)


def test_bits_of_a_uniform_guess_and_of_certainty():
    """Ten symbols of eight kinds are 30 bits; ln 8 nats at each of the ten leave none, half of that leaves 15."""
    steps = 30
    assert recalled_bits(30, 10 * math.log(8) / steps, steps) == pytest.approx(0, abs=1e-9)
    assert recalled_bits(30, 5 * math.log(8) / steps, steps) == pytest.approx(15)
    assert recalled_bits(30, 0.0, steps) == 30
    assert recalled_bits(30, 9.0, steps) == 0


def test_a_state_of_float32_numbers():
    assert state_bits(64) == 2048


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(1, 1000))
def test_shares_have_intervals_within_0_and_1(values, examples):
    found = score_interval(values, examples, SHARE)
    assert 0 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1


def test_seeds_that_agree_leave_the_uncertainty_of_the_test_set():
    found = score_interval([1.0, 1.0, 1.0], 500, SHARE)
    assert (found.high, found.low) == (1, pytest.approx(1 - 3.84 / 504, abs=1e-4))  # Wilson at p = 1: n / (n + z²)


def test_an_error_has_no_share():
    found = score_interval([0.1, 0.2, 0.3], 500, Range(0.0, None))
    assert found.low == 0
    assert found.high == pytest.approx(0.2 + 4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
