"""Intervals of 95 % for the metrics of one test set: Wilson's for a share, the bootstrap for any other."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ends = tuple[float, float]
Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
RESAMPLES = 100
"""Standard errors by so many are right to 7 %."""


def wilson_interval(hits: float, examples: int) -> Ends:
    r"""Return the interval of a share (Wilson 1927), which is within 0 and 1.

    .. math::
        \frac{1}{1 + z^2/n} \left( p + \frac{z^2}{2n} ± z \sqrt{\frac{p (1 - p)}{n} + \frac{z^2}{4 n^2}} \right)

    Args:
        hits: number of successes, so that :math:`p` is ``hits / examples``.
        examples: :math:`n`, at least 1.
    """
    share, square = hits / examples, Z**2 / examples
    middle = share + square / 2
    half = Z * math.sqrt(share * (1 - share) / examples + square / (4 * examples))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return min(share, max(0.0, low)), max(share, min(1.0, high))  # the share is between them but for rounding


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    value: float,
    examples: int,
    limits: Sequence[float | None] = (None, None),
    seed: int = 0,
) -> Ends | None:
    """Return the normal interval with the standard error of the bootstrap over examples (Efron 1979).

    Args:
        statistic: returns the metric of each resampled set ``[resamples]``, given the rows ``[resamples, examples]``.
        value: the metric of the whole set, which the interval has in its middle unless ``limits`` cut it.
        examples: in the set.
        limits: least and greatest possible value; ``None``: unbounded.
        seed: of the resampling.

    Returns:
        ``None`` where the metric is not finite.
    """
    return bootstrap_intervals(lambda rows: {"": statistic(rows)}, {"": value}, examples, {"": limits}, seed).get("")


def bootstrap_intervals(
    statistics: Callable[[NDArray[np.int64]], dict[str, Any]],
    values: dict[str, float],
    examples: int,
    limits: dict[str, Any],
    seed: int = 0,
) -> dict[str, Ends]:
    """Return the interval of each metric with the same resampled sets; see :func:`bootstrap_interval`."""
    rows = np.random.default_rng(seed).integers(0, examples, (RESAMPLES, examples))
    found = {}
    for name, resampled in statistics(rows).items():
        finite = np.asarray(resampled)[np.isfinite(resampled)]
        if not math.isfinite(values[name]) or len(finite) < 2:
            continue
        half = Z * float(finite.std(ddof=1))
        low, high = (-math.inf if limits[name][0] is None else limits[name][0]), limits[name][1]
        found[name] = max(low, values[name] - half), min(math.inf if high is None else high, values[name] + half)
    return found
