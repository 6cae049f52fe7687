"""Scores of a card: means over seeds with intervals, and bits recalled from a state."""

import math
from collections.abc import Sequence
from typing import Any

from seqlab.study.intervals import Interval, Range, share_interval, student_interval

STATE_BITS = 32
"""Bits of one number of the state: float32."""


def score_interval(values: Sequence[float], examples: int, limits: Range) -> Interval:
    """Return the mean of a score over seeds with an interval that stays within the metric's limits.

    It is Student's interval over seeds; a share (limits 0 and 1) also contains Wilson's interval over the test
    examples, which seeds share, so that seeds that agree do not give an interval of width zero.

    Args:
        values: test score of each seed; at least one.
        examples: test examples, the same for each.
        limits: of the metric.
    """
    found = limits.clip(student_interval(values))
    if (limits.low, limits.high) != (0, 1) or examples < 1:
        return found
    share = share_interval(min(examples, max(0.0, found.mean * examples)), examples)  # which all seeds share
    ends = [found.low, found.high, share.low, share.high]
    known = [end for end in ends if end is not None]
    return Interval(found.mean, min(known), max(known), len(values))


def recalled_bits(bits: float, loss: float, steps: int) -> float:
    r"""Return a lower bound on the information that a model recalls about its input.

    .. math:: I(X; Y) ≥ H(X) - \mathbb E[-\log_2 q(X)], \quad \mathbb E[-\log_2 q(X)] = T L / \ln 2

    (Barber & Agakov 2003, "The IM algorithm"), for the model's probability :math:`q` of the symbols to recall. Outputs
    that are due at other steps add to the loss and so lower the bound.

    Args:
        bits: entropy :math:`H(X)` of the random input.
        loss: mean cross-entropy :math:`L` of a step, in nats.
        steps: number of steps :math:`T` of the mean.
    """
    return min(bits, max(0.0, bits - loss * steps / math.log(2)))


def state_bits(numbers: int) -> int:
    """Return the bits of a state of float32 numbers."""
    return STATE_BITS * numbers


def record_interval(found: Interval) -> dict[str, Any]:
    """Return an interval as it stands in a card."""
    return {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.count}
