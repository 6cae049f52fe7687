"""Intervals of 95 % for means over classes, from the counts of one test set."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ends = tuple[float, float]


@lru_cache(maxsize=4096)
def mid_p_interval(hits: int, examples: int) -> Ends:
    r"""Return the mid-P interval of a share (Berry & Armitage 1995), for few examples.

    Its ends are the shares at which the number of successes is in the upper and in the lower tail of 2.5 %:
    :math:`P(X < h) + P(X = h) / 2` is 0.975 and 0.025.

    Args:
        hits: number of successes.
        examples: number of trials, at least 1.
    """
    if 2 * hits > examples:
        low, high = mid_p_interval(examples - hits, examples)
        return 1 - high, 1 - low
    counts = range(hits + 1)
    logs = np.array([-math.lgamma(k + 1) - math.lgamma(examples - k + 1) for k in counts]) + math.lgamma(examples + 1)
    order = np.arange(hits + 1)
    weights = np.where(order < hits, 1.0, 0.5)

    def share_with(tail: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            below = weights @ np.exp(logs + order * math.log(middle) + (examples - order) * math.log1p(-middle))
            low, high = (middle, high) if below > tail else (low, middle)
        return low

    return share_with(0.975) if hits else 0.0, share_with(0.025)


def balanced_accuracy_interval(counts: NDArray[Any]) -> Ends:
    """Return the interval of the mean recall over the classes with examples.

    Args:
        counts: of the examples, ``[true class, predicted class]``; at least one.
    """
    rows = counts[counts.sum(1) > 0]
    hits = counts.diagonal()[counts.sum(1) > 0]
    ends = np.array([mid_p_interval(int(hit), int(row.sum())) for hit, row in zip(hits, rows, strict=True)])
    return _mean_interval(hits / rows.sum(1), ends, np.eye(len(hits)))


def macro_f1_interval(counts: NDArray[Any]) -> Ends:
    r"""Return the interval of the mean F1 over the classes with examples.

    The share :math:`J = h / u` of hits among the examples of which a class is the true or the predicted one gives
    :math:`F_1 = 2J / (1 + J)`, and so do the ends of its interval. An error counts against two classes; correlations
    are those of the first-order (delta) variance of multinomial counts, to which half an example of each class is
    added, so that they exist where there is no error.

    Args:
        counts: of the examples, ``[true class, predicted class]``; at least one.
    """
    present = counts.sum(1) > 0
    hits = counts.diagonal()
    unions = counts.sum(0) + counts.sum(1) - hits
    shares = hits[present] / unions[present]
    ends = np.array(
        [mid_p_interval(int(hit), int(union)) for hit, union in zip(hits[present], unions[present], strict=True)]
    )
    correlations = _f1_correlations(counts)[np.ix_(present, present)]
    return _mean_interval(2 * shares / (1 + shares), 2 * ends / (1 + ends), correlations)


def _f1_correlations(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the correlations of the classes' F1."""
    expected = np.outer(counts.sum(1) + 0.5, counts.sum(0) + 0.5)
    cells = counts + len(counts) / 2 * expected / expected.sum()
    hits = cells.diagonal()
    errors = cells - np.diag(hits)
    wrong = errors.sum(0) + errors.sum(1)
    by_hit, by_error = 2 * wrong / (2 * hits + wrong) ** 2, -2 * hits / (2 * hits + wrong) ** 2  # derivatives of F1
    shared = np.outer(by_error, by_error) * (errors + errors.T)
    np.fill_diagonal(shared, by_hit**2 * hits + by_error**2 * wrong)
    deviations = np.sqrt(shared.diagonal())
    found: NDArray[np.float64] = shared / np.outer(deviations, deviations)
    return found


def _mean_interval(values: NDArray[Any], ends: NDArray[Any], correlations: NDArray[Any]) -> Ends:
    r"""Return the interval of the mean of estimates that have intervals of their own (Zou & Donner 2008).

    With :math:`d_i` the distance of an estimate from its lower (or upper) end, the mean's is
    :math:`\frac 1 k \sqrt{\sum_{ij} r_{ij} d_i d_j}`.
    """
    low, high = (math.sqrt(max(0.0, gap @ correlations @ gap)) / len(values) for gap in (ends - values[:, None]).T)
    return max(0.0, float(values.mean()) - low), min(1.0, float(values.mean()) + high)
