"""Predictions of a run for single examples, and the comparison of two runs by example."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import UserError
from seqlab.runs.intervals import RESAMPLES, Z
from seqlab.runs.run_folder import PREDICTIONS, read_weights

_FIELDS = ("target", "predicted", "confidence", "loss")


@final
@dataclass(frozen=True)
class Predictions:
    """Predictions for a split, each ``[examples]``.

    Attributes:
        target: index of the label.
        predicted: index of the likeliest label.
        confidence: its probability.
        loss: cross-entropy, in nats.
    """

    target: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    loss: NDArray[np.float64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each example is predicted right."""
        found: NDArray[np.bool_] = self.predicted == self.target
        return found

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """Return the counts ``[true class, predicted class]``."""
        counts = np.bincount(self.target * classes + self.predicted, minlength=classes**2)
        return counts.reshape(classes, classes)


def read_predictions(folder: Path, split: str) -> Predictions | None:
    """Read the predictions of a run; ``None`` where it has none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / PREDICTIONS
    if not path.exists():
        return None
    tensors = read_weights(path)
    if f"{split}.target" not in tensors:
        return None
    try:
        found = [tensors[f"{split}.{name}"].numpy() for name in _FIELDS]
    except KeyError as error:
        raise UserError(f"{path} has no {error.args[0]}") from error
    integers = all(np.issubdtype(array.dtype, np.integer) and (array >= 0).all() for array in found[:2])
    if not integers or len({array.shape for array in found}) > 1 or found[0].ndim != 1:
        raise UserError(f"{path} is damaged: {', '.join(_FIELDS)} must be one number per example")
    return Predictions(*found)


@final
@dataclass(frozen=True)
class ExampleComparison:
    """Difference B - A of a metric over the same examples.

    Attributes:
        examples: number of them.
        difference: B - A.
        low, high: its 95 % interval.
        only_a, only_b: examples that only A, or only B, predicts right.
        p: two-sided exact probability of McNemar's test; ``None`` for metrics other than accuracy.
    """

    examples: int
    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p: float | None

    def describe(self, metric: str, a: str, b: str, *, maximises: bool | None) -> str:
        """Return a sentence on which run scores better on these examples."""
        ends = f"B - A is {self.difference:+.4g}, 95 % interval {self.low:+.4g} to {self.high:+.4g}"
        count = f"{self.examples:,} validation examples"
        test = "paired bootstrap over examples"
        if self.p is not None:
            test = f"McNemar's test: only A right {self.only_a:,}, only B right {self.only_b:,}, p = {self.p:.2g}"
        certain = self.p < 0.05 if self.p is not None else not self.low <= 0 <= self.high
        gain = -self.difference if maximises is False else self.difference
        better, worse = (b, a) if gain > 0 else (a, b)
        verdict = f"{better} is better than {worse}" if certain else f"{a} and {b} cannot be told apart"
        return (
            f"validation {metric} by example (one seed, {count}): {verdict} ({ends}; {test}); other seeds may differ."
        )


def compare_examples(a: Predictions, b: Predictions, metric: str) -> ExampleComparison | None:
    r"""Compare two runs on the same examples: by McNemar's test for accuracy, by the paired bootstrap for the rest.

    With :math:`n_A` and :math:`n_B` the examples that only one predicts right, both plus 1/2, and :math:`n` all
    examples plus 2, the interval for accuracy is that of Agresti & Min 2005,

    .. math::
        \left( n_B - n_A ± z \sqrt{n_A + n_B - (n_B - n_A)^2 / n} \right) / n.

    Returns:
        ``None`` if the examples differ, or the metric is not a function of the predictions.
    """
    if a.target.shape != b.target.shape or (a.target != b.target).any() or not len(a.target):
        return None
    examples = len(a.target)
    only_a, only_b = int((a.hits & ~b.hits).sum()), int((b.hits & ~a.hits).sum())
    if metric == "accuracy":
        difference = (only_b - only_a) / examples
        total, gain = examples + 2, only_b - only_a
        half = Z * math.sqrt(only_a + only_b + 1 - gain**2 / total)
        ends = max(-1.0, (gain - half) / total), min(1.0, (gain + half) / total)
        return ExampleComparison(examples, difference, *ends, only_a, only_b, mcnemar(only_a, only_b))
    if metric not in _METRICS:
        return None
    classes = int(max(a.target.max(), a.predicted.max(), b.predicted.max())) + 1
    generator = np.random.default_rng(0)
    draws = (generator.integers(0, examples, examples) for _ in range(10 * RESAMPLES))  # one at a time in memory
    difference = _score(b, metric, classes, ...) - _score(a, metric, classes, ...)
    resampled = np.array([_score(b, metric, classes, rows) - _score(a, metric, classes, rows) for rows in draws])
    half = Z * float(resampled.std(ddof=1))
    return ExampleComparison(examples, difference, difference - half, difference + half, only_a, only_b, None)


_METRICS = ("balanced_accuracy", "macro_f1", "loss")


def _score(found: Predictions, metric: str, classes: int, rows: Any) -> float:
    if metric == "loss":
        return float(found.loss[rows].mean())
    counts = np.bincount((found.target * classes + found.predicted)[rows], minlength=classes**2)
    counts = counts.reshape(classes, classes)
    true, hits = counts.sum(1), counts.diagonal()
    present = true > 0
    if metric == "balanced_accuracy":
        return float((hits[present] / true[present]).mean())
    return float((2 * hits[present] / (true + counts.sum(0))[present]).mean())


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided exact p of McNemar's test: of a fair coin thrown once for each example on which they differ.

    Args:
        only_a: examples that only A predicts right.
        only_b: examples that only B predicts right.
    """
    total, least = only_a + only_b, min(only_a, only_b)
    if not total:
        return 1.0
    logs = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(least + 1)]
    tail = sum(math.exp(value - total * math.log(2)) for value in logs)
    return min(1.0, 2 * tail)
