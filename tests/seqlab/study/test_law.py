"""Censored regression of horizons, against scipy, a closed form and simulations with known exponents."""

import math
import random
import statistics

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import linregress, norm, t

from seqlab.study.law import Point, fit_law, read_points

INTERCEPTS, EXPONENTS, SIGMA = {"gru": 2.5, "rnn": 1.5}, {"steps": 0.8, "size": -0.4}, 0.5
CHOICES = {"steps": [1.0, 2.0, 4.0, 8.0], "size": [1.0, 2.0, 4.0]}


def draw_horizon(draws, largest=128.0):
    """Draw a horizon by a known law; the point knows it to a factor of two, between 2 and ``largest`` steps."""
    group = draws.choice(list(INTERCEPTS))
    factors = {name: draws.choice(values) for name, values in CHOICES.items()}
    mean = INTERCEPTS[group] + sum(EXPONENTS[name] * math.log(factors[name]) for name in factors)
    horizon = math.exp(draws.gauss(mean, SIGMA))
    low = 2.0 ** math.floor(math.log2(horizon))
    ends = (None, 2.0) if low < 2 else (largest, None) if low >= largest else (low, 2 * low)
    return Point(group, factors, *ends), horizon


def simulated(seed, count=60):
    draws = random.Random(seed)
    return [draw_horizon(draws)[0] for _ in range(count)]


def minus_log_likelihood(points, values):
    """By scipy's normal distribution, of intercepts, exponents and sigma in this order."""
    intercepts, exponents = dict(zip(INTERCEPTS, values[:2], strict=True)), values[2:4]
    means = [
        intercepts[point.group] + sum(exponents * np.log([point.factors[name] for name in EXPONENTS]))
        for point in points
    ]
    low = [-np.inf if point.low is None else np.log(point.low) for point in points]
    high = [np.inf if point.high is None else np.log(point.high) for point in points]
    inside = norm.cdf(high, means, values[4]) - norm.cdf(low, means, values[4])
    return -np.log(np.maximum(inside, 1e-300)).sum()


def estimates(law):
    exponents = [law.exponents[name].mean for name in EXPONENTS]
    return [*(law.intercepts[name] for name in INTERCEPTS), *exponents, law.sigma]


def test_the_fit_is_the_maximum_that_scipy_finds():
    points = simulated(0)
    law = fit_law(points)
    start = [*INTERCEPTS.values(), *EXPONENTS.values(), SIGMA]
    bounds = [(None, None)] * 4 + [(0.1, None)]
    best = minimize(lambda values: minus_log_likelihood(points, values), start, method="L-BFGS-B", bounds=bounds)
    assert estimates(law) == pytest.approx(best.x, abs=2e-3)
    assert law.likelihood * law.count == pytest.approx(-best.fun, abs=1e-4)


def test_the_covariance_is_that_of_the_observed_information():
    """Second differences of scipy's likelihood at the maximum."""
    points = simulated(0)
    law = fit_law(points)
    at, step = np.array(estimates(law)), 1e-3 * np.eye(5)
    information = [
        [
            sum(s * t * minus_log_likelihood(points, at + s * a + t * b) for s in (1, -1) for t in (1, -1)) / 4e-6
            for b in step
        ]
        for a in step
    ]
    groups = list(law.intercepts)
    order = [*map(groups.index, INTERCEPTS), *(2 + list(law.exponents).index(name) for name in EXPONENTS), 4]
    assert law.covariance[np.ix_(order, order)] == pytest.approx(np.linalg.inv(information), rel=1e-3, abs=1e-6)


def test_without_a_profile_the_intervals_are_normal():
    law = fit_law(simulated(0), profile=False)
    for place, found in enumerate(law.exponents.values(), start=2):
        half = norm.ppf(0.975) * math.sqrt(law.covariance[place, place])
        assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))


@pytest.mark.parametrize("side", ["low", "high"])
def test_at_the_ends_of_an_interval_the_likelihood_ratio_is_the_quantile(side):
    """The maximum over the other coefficients is lower by half the 95 % quantile of chi-squared."""
    points = simulated(1)
    law = fit_law(points)
    end = getattr(law.exponents["steps"], side)

    def profile(others):
        return minus_log_likelihood(points, np.insert(others, 2, end))

    bounds = [(None, None)] * 3 + [(0.1, None)]
    best = minimize(profile, np.delete(estimates(law), 2), method="L-BFGS-B", bounds=bounds)
    assert law.likelihood * law.count + best.fun == pytest.approx(norm.ppf(0.975) ** 2 / 2, abs=1e-3)


def test_a_horizon_far_from_all_others_does_not_end_the_fit():
    """Its probability is 0 in float64 where the search for the maximum begins."""
    points = [*[Point("a", {}, 8, 8.0001)] * 20, *[Point("a", {}, 9, 9.0001)] * 20, Point("a", {}, 1e9, 1.0001e9)]
    law = fit_law(points)
    logs = [*[math.log(8)] * 20, *[math.log(9)] * 20, math.log(1e9)]
    assert law.intercepts["a"] == pytest.approx(statistics.fmean(logs), rel=1e-4)
    assert law.sigma == pytest.approx(statistics.pstdev(logs), rel=1e-4)


def test_two_thresholds_have_a_closed_form():
    """The shares of three bins determine mean and sigma: their normal quantiles lie at the thresholds."""
    points = [*[Point("a", {}, None, 4)] * 20, *[Point("a", {}, 4, 16)] * 50, *[Point("a", {}, 16, None)] * 30]
    law = fit_law(points)
    first, second = norm.ppf(0.2), norm.ppf(0.7)
    sigma = math.log(16 / 4) / (second - first)
    assert law.sigma == pytest.approx(sigma)
    assert law.intercepts["a"] == pytest.approx(math.log(4) - first * sigma)
    assert law.likelihood == pytest.approx(0.2 * math.log(0.2) + 0.5 * math.log(0.5) + 0.3 * math.log(0.3))
    found = law.predict(points[0])
    spread = math.log(found.high / found.mean)
    assert found.mean == pytest.approx(4 * math.exp(-first * sigma))
    assert spread == pytest.approx(math.log(found.mean / found.low))
    deviation = math.sqrt((sigma**2 + law.covariance[0, 0]) * 100 / 99)
    assert spread == pytest.approx(t.ppf(0.975, 99) * deviation)
    assert law.log_score(points[-1]) == pytest.approx(norm.logsf(math.log(16), law.intercepts["a"], deviation))


def test_narrow_intervals_give_linear_regression():
    """Exponent, and the prediction interval of textbooks."""
    draws = random.Random(0)
    x = [float(2**place) for place in range(12)]
    y = [math.exp(1 + 0.7 * math.log(each) + draws.gauss(0, 0.3)) for each in x]
    law = fit_law([Point("a", {"n": n}, h * 0.999, h * 1.001) for n, h in zip(x, y, strict=True)])
    line = linregress(np.log(x), np.log(y))
    residuals = np.log(y) - line.intercept - line.slope * np.log(x)
    deviation = math.sqrt(sum(residuals**2) / 10)
    assert law.exponents["n"].mean == pytest.approx(line.slope, abs=1e-4)
    at = math.log(100.0)
    square = 1 + 1 / 12 + (at - np.log(x).mean()) ** 2 / (12 * np.log(x).var())
    found = law.predict(Point("a", {"n": 100.0}, 1, 2))
    half = t.ppf(0.975, 10) * deviation * math.sqrt(square)
    assert math.log(found.high / found.mean) == pytest.approx(half, rel=1e-3)
    assert math.log(found.mean) == pytest.approx(line.intercept + line.slope * at, abs=1e-3)


def test_intervals_cover_true_exponents_and_new_horizons():
    """In about 95 % of simulations each; the true horizon counts, not the interval that the law would be given."""
    covered, inside = [], []
    for seed in range(30):
        draws = random.Random(seed)
        law = fit_law([draw_horizon(draws)[0] for _ in range(80)])
        covered += [law.exponents[name].low <= value <= law.exponents[name].high for name, value in EXPONENTS.items()]
        for point, horizon in (draw_horizon(draws) for _ in range(20)):
            found = law.predict(point)
            inside.append(found.low <= horizon <= found.high)
    assert 0.87 <= statistics.fmean(covered) <= 1.0  # of 60; three standard deviations are 0.08
    assert 0.92 <= statistics.fmean(inside) <= 0.98


def row(label, lower, upper, *, words=(), protocol="fixed"):
    return {
        "task": "first", "label": label, "words": ["cell=gru", *words], "task_words": ["task=first", "task.examples=9"],
        "lower": lower, "upper": upper, "protocol": protocol,
    }  # fmt: skip


def test_points_of_a_search_have_the_numbers_that_vary():
    rows = [
        row("a hidden_size=8 lr=0.01", 4, 8, words=["cell.hidden_size=8", "optimizer.lr=0.01", "cell.forget_bias=3"]),
        row("a hidden_size=16 lr=0.01", 8, None, words=["cell.hidden_size=16", "optimizer.lr=0.01"]),
        row("b hidden_size=8 lr=0.01", None, None, words=["cell.hidden_size=8", "optimizer.lr=0.01"]),
        row("d", 2, 4, protocol="curriculum"),
    ]
    first, second = read_points(rows)
    assert first == Point("first a", {"cell.hidden_size": 8.0}, 4, 8)
    assert second == Point("first a", {"cell.hidden_size": 16.0}, 8, None)
    assert read_points([]) == []


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "a law needs points"),
        (
            [Point("a", {"n": 2.0}, 4, 8), Point("a", {"n": 2.0}, 2, 4)] * 2,
            r"do not tell apart groups and factors \(n\)",
        ),
        ([Point("a", {}, 4, 8), Point("a", {}, 4, 8)], "do not determine the error"),
        ([Point("a", {}, None, 8), Point("a", {}, None, 4)], "censored at the same end: a"),
        (
            [Point("a", {"n": 1.0}, None, 2), Point("a", {"n": 1.0}, None, 4), *[Point("a", {"n": 2.0}, 8, None)] * 2],
            "do not determine",
        ),
        ([Point("a", {}, 8, 16)], "a law of 1 coefficients needs more than 1 points"),
        ([Point("a", {}, 8, 8)], "low must be below high"),
    ],
)
def test_points_that_determine_no_law_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        fit_law(points)
