"""Coverage of the intervals over simulated test sets."""

import numpy as np
import pytest
from scipy.stats import binomtest

from seqlab.runs.intervals import bootstrap_interval, bootstrap_intervals, wilson_interval

SETS = 10_000


def covered(ends, truth):
    low, high = np.array(ends).T
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize(("share", "examples"), [(0.9, 160), (0.5, 40), (0.07, 300), (0.7, 1000)])
def test_wilson_covers_the_share_in_95_of_100_test_sets(share, examples):
    hits = np.random.default_rng(0).binomial(examples, share, SETS)
    known = {count: wilson_interval(count, examples) for count in np.unique(hits).tolist()}
    ends = [known[count] for count in hits.tolist()]
    assert 0.93 <= covered(ends, share) <= 0.97
    assert all(0 <= low <= high <= 1 for low, high in ends)


@pytest.mark.parametrize(("hits", "examples"), [(0, 10), (10, 10), (3, 17), (250, 251)])
def test_wilson_is_that_of_scipy(hits, examples):
    found = binomtest(hits, examples).proportion_ci(0.95, "wilson")
    assert wilson_interval(hits, examples) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.slow
def test_the_bootstrap_covers_a_mean_loss_in_95_of_100_test_sets():
    """Cross-entropies are skewed: here exponential ones, whose mean is 1."""
    losses = np.random.default_rng(1).exponential(size=(SETS, 150))
    ends = [
        bootstrap_interval(lambda rows, own=own: own[rows].mean(1), own.mean(), len(own), (0, None), seed)
        for seed, own in enumerate(losses)
    ]
    assert 0.93 <= covered(ends, 1.0) <= 0.97


def test_a_perfect_score_does_not_leave_the_range():
    found = bootstrap_intervals(
        lambda rows: {"high": np.linspace(0.9, 1, len(rows)), "free": np.linspace(-5, 5, len(rows))},
        {"high": 1.0, "free": 0.0},
        10,
        {"high": (0, 1), "free": (None, None)},
    )
    assert found["high"][1] == 1.0 > found["high"][0]
    assert found["free"][0] == -found["free"][1] < -5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_interval_of_what_is_not_finite(value):
    assert bootstrap_interval(lambda rows: np.full(len(rows), np.nan), value, 10) is None
