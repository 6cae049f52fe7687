"""Student's interval against tables and by its coverage."""

import numpy as np
import pytest

from seqlab.study.intervals import fold_interval, student_interval, t_cdf, t_quantile, wilson_interval

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


@pytest.mark.parametrize(("successes", "count"), [(8, 10), (0, 5), (5, 5), (300, 1000), (1, 1)])
def test_wilsons_ends_are_where_the_score_test_is_at_its_limit(successes, count):
    """The proportions whose standardised distance from the observed one is the normal quantile."""
    found = wilson_interval(successes, count)
    for end, is_bound in ((found.low, successes == 0), (found.high, successes == count)):
        if is_bound:
            assert end == pytest.approx(found.mean, abs=1e-12)
        else:
            assert abs(found.mean - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / count), rel=1e-5)
    if (successes, count) == (8, 10):
        assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_the_interval_of_folds_has_the_corrected_variance():
    values = [0.8, 0.9, 0.85]
    found = fold_interval(values)
    assert found.mean == pytest.approx(0.85)
    assert found.high - found.mean == pytest.approx(TABLE[2] * 0.05 * np.sqrt(1 / 3 + 1 / 2), rel=1e-4)
    assert fold_interval([0.5]).low is None
