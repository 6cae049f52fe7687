"""Scaling law of horizons: censored regression of their logarithms on those of numeric factors."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from seqlab.study.intervals import LEVEL, Interval, t_quantile
from seqlab.sweeps.overrides import override_key

Array = NDArray[np.float64]

_QUANTILE = float(torch.special.ndtri(torch.tensor((1 + LEVEL) / 2, dtype=torch.float64)))
_STEPS = 100
"""Newton steps, at most; where the likelihood has a maximum, about ten suffice."""
_CERTAIN = 1e-4
"""Distance of the logarithm of the likelihood from 0 below which some law fits every interval, with no error at all."""
_UNKNOWN = 100.0
"""Standard error of a coefficient above which the likelihood has its maximum at infinity."""


@final
@dataclass(frozen=True)
class Point:
    """A row of a search: the factors it was trained with, and where its horizon lies.

    Attributes:
        group: its cell and task, which have an intercept of their own.
        factors: numbers in which the rows differ, such as ``cell.hidden_size``; all positive.
        low, high: interval of the horizon in steps; ``None`` where unbounded. It is below ``high``.
    """

    group: str
    factors: Mapping[str, float]
    low: float | None
    high: float | None


def read_points(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the points of the rows of ``horizon.json`` with fixed lengths that have an interval, so far or final.

    All rows of a search that was stopped have been tried up to the same distance, which censors them alike. Factors
    are the keys that have a positive number in every row, and different ones within a cell and task.
    """
    rows = [row for row in rows if row.get("protocol", "fixed") == "fixed"]
    values = [_numbers([*row.get("words", ()), *row.get("task_words", ())]) for row in rows]
    shared = [key for key in (values[0] if values else ()) if all(key in each for each in values)]
    names = [_group(row, shared) for row in rows]
    choices: dict[tuple[str, str], set[float]] = {}
    for name, each in zip(names, values, strict=True):
        for key in shared:
            choices.setdefault((key, name), set()).add(each[key])
    varied = list(dict.fromkeys(key for (key, _), found in choices.items() if len(found) > 1))
    return [
        Point(name, {key: each[key] for key in varied}, row["lower"], row["upper"])
        for row, each, name in zip(rows, values, names, strict=True)
        if row["lower"] is not None or row["upper"] is not None
    ]


def _numbers(overrides: Sequence[str]) -> dict[str, float]:
    """Return the positive numbers among the values of overrides, by key."""
    found = {}
    for each in overrides:
        try:
            value = float(each.partition("=")[2])
        except ValueError:
            continue
        if 0 < value < math.inf:
            found[override_key(each)] = value
    return found


def _group(row: Mapping[str, Any], factors: Sequence[str]) -> str:
    """Return the labels of a row's task and cell without its factors."""
    brief = {key.rpartition(".")[2] for key in factors}
    words = f"{row['task']} {row['label']}".split()
    return " ".join(word for word in words if word.partition("=")[0] not in brief)


@final
@dataclass(frozen=True)
class Law:
    r"""Power law of the horizon :math:`h` in factors :math:`x`, with an intercept for each group.

    .. math:: \log h = a_\mathrm{group} + \sum_j β_j \log x_j + σ ε, \quad ε \sim N(0, 1)

    Attributes:
        intercepts: :math:`a`, by group.
        exponents: :math:`β`, with 95 % intervals of the profile likelihood, by factor.
        sigma: :math:`σ`.
        covariance: of intercepts, exponents and :math:`σ`, in this order, from the observed information.
        likelihood: mean of the logarithm over the points.
        count: of the points.
    """

    intercepts: Mapping[str, float]
    exponents: Mapping[str, Interval]
    sigma: float
    covariance: Array
    likelihood: float
    count: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom: points without coefficients."""
        return self.count - len(self.intercepts) - len(self.exponents)

    def predict(self, point: Point) -> Interval:
        """Return the 95 % prediction interval of a horizon in steps, around its median.

        The variance is that of the error and of the estimated mean, for the degrees of freedom that the coefficients
        take; the quantile is Student's. Without censoring that is the interval of linear regression.

        Raises:
            ValueError: the law has no such group or lacks a factor.
        """
        mean, deviation = self._normal(point)
        quantile = t_quantile((1 + LEVEL) / 2, self.freedom)
        median, low, high = (math.exp(mean + sign * quantile * deviation) for sign in (0, -1, 1))
        return Interval(median, low, high, self.count)

    def log_score(self, point: Point) -> float:
        """Return the logarithm of the predicted probability of a point's interval.

        Raises:
            ValueError: the law has no such group or lacks a factor.
        """
        mean, deviation = self._normal(point)
        ends = (np.array([(end - mean) / deviation]) for end in _log_ends(point))
        return float(_log_probability(*ends)[0])

    def _normal(self, point: Point) -> tuple[float, float]:
        if point.group not in self.intercepts or point.factors.keys() != self.exponents.keys():
            raise ValueError(f"the law has groups {', '.join(self.intercepts)} and factors {', '.join(self.exponents)}")
        x = _design([point], list(self.intercepts), list(self.exponents))[0]
        means = [each.mean for each in self.exponents.values()]
        variance = x @ self.covariance[:-1, :-1] @ x
        deviation = math.sqrt((self.sigma**2 + variance) * self.count / self.freedom)
        return float(x @ np.array([*self.intercepts.values(), *means])), deviation


def fit_law(points: Sequence[Point], *, profile: bool = True) -> Law:
    """Fit the law to interval-censored horizons by maximum likelihood.

    Written in 1/σ and β/σ the likelihood is concave (Burridge 1981), and Newton's method finds its maximum.

    Args:
        points: count as independent.
        profile: whether the intervals of exponents are those of the profile likelihood; else those of the normal
            approximation, which are faster.

    Raises:
        ValueError: the points do not determine the law: they are too few, a factor does not vary within groups, all
            horizons of a group are censored at the same end, or the intervals are too wide.
    """
    groups, factors, (x, low, high) = _checked(points)
    estimate, likelihood = _maximise(x, low, high)
    if likelihood > -_CERTAIN:
        raise ValueError("the intervals are so wide that they do not determine the error")
    scale, slopes = estimate[0], estimate[1:]
    # From (1/σ, β/σ) to (β, σ).
    turn = np.zeros((len(estimate), len(estimate)))
    turn[:-1, 0], turn[-1, 0] = -slopes / scale**2, -1 / scale**2
    turn[:-1, 1:] = np.eye(len(slopes)) / scale
    covariance = turn @ np.linalg.inv(-_derivatives(estimate, x, low, high)[2]) @ turn.T
    beta, errors = slopes / scale, np.sqrt(np.diag(covariance))
    if errors.max() > _UNKNOWN:
        raise ValueError("the intervals do not determine every coefficient")
    exponents = {}
    for place, name in enumerate(factors, start=len(groups)):
        best, error = float(beta[place]), float(errors[place])
        below, above = best - _QUANTILE * error, best + _QUANTILE * error
        if profile:
            below, above = _profile(place, best, error, likelihood, (x, low, high))
        exponents[name] = Interval(best, below, above, len(points))
    intercepts = dict(zip(groups, beta.tolist(), strict=False))
    return Law(intercepts, exponents, float(1 / scale), covariance, likelihood / len(points), len(points))


def _checked(points: Sequence[Point]) -> tuple[list[str], list[str], tuple[Array, Array, Array]]:
    """Return groups, factors, and the design with the logarithms of both ends, unless they determine no law."""
    if not points:
        raise ValueError("a law needs points")
    groups = list(dict.fromkeys(point.group for point in points))
    factors = list(points[0].factors)
    x = _design(points, groups, factors)
    low, high = (np.array(ends) for ends in zip(*map(_log_ends, points), strict=True))
    if not bool((low < high).all()):
        raise ValueError("low must be below high in every point")
    if len(points) <= x.shape[1]:
        raise ValueError(f"a law of {x.shape[1]} coefficients needs more than {len(points)} points")
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise ValueError(f"the points do not tell apart groups and factors ({', '.join(factors)})")
    if undetermined := set(groups) - bounded_groups(points):
        raise ValueError(f"all horizons are censored at the same end: {', '.join(sorted(undetermined))}")
    return groups, factors, (x, low, high)


def bounded_groups(points: Iterable[Point]) -> set[str]:
    """Return the groups with a horizon bounded below and one bounded above; others have no intercept."""
    points = list(points)
    return {point.group for point in points if point.low} & {point.group for point in points if point.high is not None}


def _profile(
    place: int, best: float, error: float, likelihood: float, data: tuple[Array, Array, Array]
) -> tuple[float, float]:
    """Return the values of a coefficient at which the likelihood-ratio test rejects, below and above the best."""
    x, low, high = data
    column, others = x[:, place], np.delete(x, place, axis=1)

    def end(sign: int) -> float:
        distance = _QUANTILE * error
        for _ in range(_STEPS):  # the root of the ratio grows about in proportion to the distance
            value = best + sign * distance
            ratio = 2 * (likelihood - _maximise(others, low - value * column, high - value * column)[1])
            closer = distance * _QUANTILE / math.sqrt(max(ratio, 1e-8))
            if abs(closer - distance) < 1e-6 * error:
                return value
            distance = closer
        raise ValueError("the likelihood of an exponent has no interval that is found")

    return end(-1), end(1)


def _design(points: Sequence[Point], groups: Sequence[str], factors: Sequence[str]) -> Array:
    """Return a row for each point: which group it is of, and the logarithms of its factors."""
    return np.array(
        [
            [float(point.group == group) for group in groups] + [math.log(point.factors[name]) for name in factors]
            for point in points
        ]
    )


def _log_ends(point: Point) -> tuple[float, float]:
    return (
        math.log(point.low) if point.low else -math.inf,
        math.inf if point.high is None else math.log(point.high),
    )


def _maximise(x: Array, low: Array, high: Array) -> tuple[Array, float]:
    """Return the maximum in (1/σ, β/σ), and the logarithm of the likelihood there.

    Raises:
        ValueError: there is none.
    """
    ends = np.stack([low, high])
    middle = np.where(np.isfinite(ends), ends, np.nan)
    target = np.nanmean(middle, axis=0)
    start = np.linalg.lstsq(x, target, rcond=None)[0]
    scale = 1 / max(float(np.std(target - x @ start)), 0.1)
    estimate = np.array([scale, *(start * scale)])
    value, gradient, curvature = _derivatives(estimate, x, low, high)
    while not math.isfinite(value):  # an interval so far off that its probability is 0 in float64
        estimate /= 2
        value, gradient, curvature = _derivatives(estimate, x, low, high)
    for _ in range(_STEPS):
        try:
            step = np.linalg.solve(-curvature, gradient)
        except np.linalg.LinAlgError:
            break
        gain, length = float(gradient @ step), 1.0
        if gain < 1e-8:  # the error after this last step is far smaller
            return estimate + step, value + gain / 2
        while length > 1e-8:  # back until it is uphill and 1/σ > 0
            tried = estimate + length * step
            if tried[0] > 0 and (found := _derivatives(tried, x, low, high))[0] >= value + 1e-4 * length * gain:
                estimate, (value, gradient, curvature) = tried, found
                break
            length /= 2
        else:
            break
    raise ValueError("the likelihood has no maximum that Newton's method finds")


def _derivatives(estimate: Array, x: Array, low: Array, high: Array) -> tuple[float, Array, Array]:
    """Return the logarithm of the likelihood, its gradient and its matrix of second derivatives."""
    rows, scores = [], []
    for ends in (low, high):
        known = np.isfinite(ends)
        row = np.column_stack([np.where(known, ends, 0.0), -x]) * known[:, None]
        rows.append(row)
        scores.append(np.where(known, row @ estimate, ends))
    value = _log_probability(*scores)
    if not bool(np.isfinite(value).all()):
        return -math.inf, np.zeros_like(estimate), np.zeros((len(estimate), len(estimate)))
    density = [
        np.where(
            np.isfinite(z), np.exp(-(np.where(np.isfinite(z), z, 0.0) ** 2) / 2 - value) / math.sqrt(2 * math.pi), 0
        )
        for z in scores
    ]
    finite = [np.where(np.isfinite(z), z, 0.0) for z in scores]
    gradient = rows[1].T @ density[1] - rows[0].T @ density[0]
    below, above = density[0] * (finite[0] - density[0]), -density[1] * (finite[1] + density[1])
    cross = (rows[0].T * (density[0] * density[1])) @ rows[1]
    curvature = (rows[0].T * below) @ rows[0] + (rows[1].T * above) @ rows[1] + cross + cross.T
    return float(value.sum()), gradient, curvature


def _log_probability(low: Array, high: Array) -> Array:
    """Return the logarithm of the normal probability of intervals, from the tail where it is small."""
    turned = low > 0
    low, high = np.where(turned, -high, low), np.where(turned, -low, high)
    below, above = (torch.special.log_ndtr(torch.from_numpy(z)).numpy() for z in (low, high))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = above + np.log1p(-np.exp(below - above))
    return np.where(np.isnan(found), -np.inf, found)
