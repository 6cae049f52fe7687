"""Student's interval against tables and by its coverage; Wilson's against its equation."""

import numpy as np
import pytest

from seqlab.study.intervals import (
    fold_interval,
    replicate_interval,
    share_interval,
    student_interval,
    t_cdf,
    t_quantile,
)

TABLE = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 9: 2.2622, 10: 2.2281, 29: 2.0452, 30: 2.0423, 120: 1.9799}
"""Two-sided 95 %: Fisher & Yates 1963, table III."""


@pytest.mark.parametrize("freedom", TABLE)
def test_quantiles_are_those_of_the_tables(freedom):
    assert t_quantile(0.975, freedom) == pytest.approx(TABLE[freedom], abs=5e-5)
    assert t_cdf(TABLE[freedom], freedom) == pytest.approx(0.975, abs=1e-5)


def test_the_interval_of_three_values_has_its_coverage():
    drawn = np.random.default_rng(0).normal(1.0, 2.0, (4000, 3)).tolist()
    hits = [found.low <= 1.0 <= found.high for found in map(student_interval, drawn)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_one_value_has_no_interval():
    assert student_interval([0.5]).low is None
    with pytest.raises(ValueError, match="freedom"):
        t_quantile(0.975, 0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 3), (45, 50)])
def test_the_ends_of_wilsons_interval_solve_its_equation(successes, trials):
    """At an end p, the observed share is z standard errors of p away (the test that the interval inverts)."""
    found = share_interval(successes, trials)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(found.mean - end) == pytest.approx(1.959964 * (end * (1 - end) / trials) ** 0.5, rel=1e-5)


def test_a_share_needs_trials():
    with pytest.raises(ValueError, match="trials"):
        share_interval(0, 0)


def test_the_interval_of_folds_has_the_corrected_variance():
    values = [0.8, 0.9, 0.85]
    found = fold_interval(values)
    assert found.mean == pytest.approx(0.85)
    assert found.high - found.mean == pytest.approx(TABLE[2] * 0.05 * np.sqrt(1 / 3 + 1 / 2), rel=1e-4)
    narrower = fold_interval(values, ratio=0.25)
    assert narrower.high - narrower.mean == pytest.approx(TABLE[2] * 0.05 * np.sqrt(1 / 3 + 1 / 4), rel=1e-4)
    assert fold_interval([0.5]).low is None


def test_seeds_of_a_fold_are_averaged():
    folds = [("0", 0.7), ("0", 0.9), ("1", 0.9), ("2", 0.85)]
    assert replicate_interval(folds) == fold_interval([0.8, 0.9, 0.85])
    assert replicate_interval([(None, 0.8), (None, 0.9)]) == student_interval([0.8, 0.9])
