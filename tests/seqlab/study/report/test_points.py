"""Runs put together: the rate that validation chooses, the horizon by its definition."""

import pytest

from seqlab.study.report.figures import points, reach
from seqlab.study.report.reading import collect
from seqlab.study.report.runs import labels


def points_of(folder):
    return points(labels(collect([folder]).runs))


def test_validation_chooses_the_rate_and_the_test_does_not(sweep, record):
    worse = [record(seed=seed, score=0.9, valid=0.2, optimizer__lr=0.1) for seed in (0, 1)]
    better = [record(seed=seed, score=0.4 + seed / 10, valid=0.8, optimizer__lr=0.2) for seed in (0, 1)]
    lucky = [record(seed=5, score=0.99, valid=0.99, optimizer__lr=0.3)]
    (point,) = points_of(sweep("a", [*worse, *better, *lucky]))
    assert point.scores == [0.4, 0.5]
    assert point.rates == (0.1, 0.2, 0.3)
    assert point.mean == pytest.approx(0.45)


def test_the_horizon_is_where_two_thirds_of_the_seeds_solve(sweep, record):
    scores = {4: (1, 1, 1), 8: (1, 0, 1), 16: (0, 1, 0), 32: (0, 0, 0), 64: (0, 0, 0)}
    made = [record("lstm", at, seed, float(each)) for at, row in scores.items() for seed, each in enumerate(row)]
    found = reach(points_of(sweep("a", made)))
    assert (found.horizon, found.lower, found.upper, found.largest) == (8, 4, 32, 64)
    nothing = reach(points_of(sweep("b", [record(score=0.1)])))
    assert (nothing.horizon, nothing.lower, nothing.upper) == (None, None, 4)
    everything = reach(points_of(sweep("c", [record(score=1.0)])))
    assert (everything.horizon, everything.lower, everything.upper) == (4, 4, None)
