"""Student's interval for the mean of few values, and Wilson's for a share."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from seqlab.runs.intervals import wilson_interval

LEVEL = 0.95


@final
@dataclass(frozen=True)
class Interval:
    """Interval for the mean of ``count`` values; a single value has no ends."""

    mean: float
    low: float | None
    high: float | None
    count: int


@final
@dataclass(frozen=True)
class Range:
    """Possible values of a metric; an end is ``None`` where unbounded."""

    low: float | None = None
    high: float | None = None

    def of_differences(self) -> "Range":
        """Return the range of the difference of two values."""
        if self.low is None or self.high is None:
            return Range()
        return Range(self.low - self.high, self.high - self.low)

    def clip(self, found: Interval) -> Interval:
        """Return an interval without what lies outside the range; it keeps its mean.

        A mean of values in the range is in the range, so clipping does not change the coverage.
        """
        low, high = found.low, found.high
        if low is not None and self.low is not None:
            low = min(max(low, self.low), found.mean)
        if high is not None and self.high is not None:
            high = max(min(high, self.high), found.mean)
        return replace(found, low=low, high=high)


def student_interval(values: Sequence[float]) -> Interval:
    r"""Return Student's interval for the mean of independent, roughly normal values.

    .. math:: \bar d ± t_{n-1} \, s / \sqrt n

    The bootstrap is no alternative for few values: of three, its 95 % percentile interval covers about 75 %.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    half = t_quantile((1 + LEVEL) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half, len(values))


def share_interval(successes: float, trials: int) -> Interval:
    """Return :func:`Wilson's interval <seqlab.runs.intervals.wilson_interval>` of a share of independent trials.

    Raises:
        ValueError: there is no trial, or ``successes`` is below 0 or above ``trials``.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"trials must be >= 1 and successes from 0 to trials, got {successes} of {trials}")
    return Interval(successes / trials, *wilson_interval(successes, trials), trials)


def fold_interval(values: Sequence[float], ratio: float | None = None) -> Interval:
    r"""Return the interval for the mean score of ``k`` folds of cross-validation (Nadeau & Bengio 2003).

    .. math:: \bar d ± t_{k-1} \, s \sqrt{\tfrac 1 k + r}

    Training sets of folds overlap, so that scores are not independent; their correction of the variance adds :math:`r`.

    Args:
        values: of each fold.
        ratio: :math:`r`, scored rows to training rows; ``None``: that of folds without validation rows,
            :math:`1 / (k-1)`.
    """
    found, folds = student_interval(values), len(values)
    if found.low is None or found.high is None:
        return found
    ratio = 1 / (folds - 1) if ratio is None else ratio
    half = (found.high - found.mean) * math.sqrt(1 + folds * ratio)
    return replace(found, low=found.mean - half, high=found.mean + half)


def replicate_interval(values: Sequence[tuple[str | None, float]]) -> Interval:
    """Return the interval for the mean over replicates: over folds (:func:`fold_interval`), else over seeds.

    Args:
        values: the fold of each replicate, ``None`` without folds, and its value; those of a fold are averaged.
    """
    by_fold: dict[str | None, list[float]] = {}
    for fold, value in values:
        by_fold.setdefault(fold, []).append(value)
    if len(by_fold) < 2:
        return student_interval([value for _, value in values])
    return fold_interval([statistics.fmean(each) for each in by_fold.values()])


def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's distribution, by bisection, to about 12 digits.

    Args:
        probability: in [0.5, 1).
        freedom: degrees of freedom; at least 1.
    """
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"probability must be in [0.5, 1) and freedom >= 1, got {probability} and {freedom}")
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < probability else (low, middle)
    return high


def t_cdf(t: float, freedom: int) -> float:
    """Return Student's distribution function at ``t >= 0`` (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = 1.0, 0.0
    first = freedom % 2  # the series of odd degrees starts with cos, that of even ones with 1
    if freedom > 1:
        term = cosine if first else 1.0
        total = term
        for k in range(first + 2, freedom - 1, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
    within = 2 / math.pi * (angle + sine * total) if first else sine * total
    return (1 + within) / 2
