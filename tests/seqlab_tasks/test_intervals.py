"""Coverage of the intervals of means over classes, over simulated test sets."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from seqlab_tasks.intervals import balanced_accuracy_interval, macro_f1_interval, mid_p_interval

SETS = 10_000
TICKETS = (0.6, 0.25, 0.11, 0.04)
"""Shares of classes: the rarest has some 5 of 120 examples."""
CASES = {
    "rare": (120, TICKETS, (0.98, 0.9, 0.7, 0.3)),
    "good": (120, TICKETS, (0.98, 0.95, 0.9, 0.85)),
    "nearly perfect": (120, TICKETS, (0.995, 0.99, 0.98, 0.97)),
    "equal": (500, (0.25,) * 4, (0.9, 0.85, 0.8, 0.9)),
    "few": (40, (0.5, 0.5), (0.8, 0.8)),
    "skewed": (557, (0.866, 0.134), (0.995, 0.92)),
}


def balanced_accuracy(counts):
    present = counts.sum(1) > 0
    return (counts.diagonal()[present] / counts.sum(1)[present]).mean()


def macro_f1(counts):
    present = counts.sum(1) > 0
    return (2 * counts.diagonal()[present] / (counts.sum(0) + counts.sum(1))[present]).mean()


def cells(shares, recalls):
    """Return probabilities ``[true class, predicted class]``; errors go to frequent classes."""
    table = np.array([np.where(np.arange(len(shares)) == true, 0.0, shares) for true in range(len(shares))])
    table *= ((1 - np.array(recalls)) / table.sum(1))[:, None]
    return np.array(shares)[:, None] * (table + np.diag(recalls))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "interval"), [(balanced_accuracy, balanced_accuracy_interval), (macro_f1, macro_f1_interval)]
)
@pytest.mark.parametrize("name", CASES)
def test_the_interval_covers_the_metric_of_the_population_in_95_of_100_test_sets(name, metric, interval):
    examples, shares, recalls = CASES[name]
    table = cells(shares, recalls)
    sets = np.random.default_rng(0).multinomial(examples, table.ravel(), SETS).reshape(SETS, *table.shape)
    ends = np.array([interval(counts) for counts in sets])
    values = np.array([metric(counts) for counts in sets])
    assert (np.stack([np.zeros(SETS), ends[:, 0], values, ends[:, 1]], 1).argsort(1, stable=True) == range(4)).all()
    assert (ends[:, 1] <= 1).all()
    assert 0.93 <= ((ends[:, 0] <= metric(table)) & (metric(table) <= ends[:, 1])).mean() <= 0.975


@pytest.mark.parametrize(("hits", "examples"), [(0, 5), (5, 5), (1, 7), (40, 60), (3, 5000), (49_000, 100_000)])
def test_mid_p_puts_a_fortieth_in_each_tail(hits, examples):
    low, high = mid_p_interval(hits, examples)
    if hits:
        assert binom.sf(hits, examples, low) + binom.pmf(hits, examples, low) / 2 == pytest.approx(0.025, rel=1e-6)
    if hits < examples:
        assert binom.cdf(hits - 1, examples, high) + binom.pmf(hits, examples, high) / 2 == pytest.approx(0.025, 1e-6)
    outer = beta.ppf(0.025, hits, examples - hits + 1) if hits else 0, beta.ppf(0.975, hits + 1, examples - hits)
    assert outer[0] <= low <= hits / examples <= high <= (outer[1] if hits < examples else 1)  # Clopper-Pearson's


def test_with_many_examples_the_f1_interval_is_that_of_a_normal_distribution():
    table = np.array([[300, 60, 40], [50, 400, 50], [10, 20, 170]])
    sets = np.random.default_rng(0).multinomial(table.sum(), (table / table.sum()).ravel(), 20_000).reshape(-1, 3, 3)
    low, high = macro_f1_interval(table)
    assert high - low == pytest.approx(2 * 1.96 * np.std([macro_f1(counts) for counts in sets]), rel=0.03)


def test_one_class_has_the_interval_of_its_recall():
    assert balanced_accuracy_interval(np.array([[7, 2], [0, 0]])) == pytest.approx(mid_p_interval(7, 9))
