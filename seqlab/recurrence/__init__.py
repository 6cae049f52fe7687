"""What a step function gets for free: time, ragged lengths, depth, direction, dropout, truncation and fast kernels."""

from seqlab.recurrence.choose import Choice, Loop, choose
from seqlab.recurrence.ragged import alive, last_valid, reverse_within
from seqlab.recurrence.recurrent import Recurrent
from seqlab.recurrence.scan import scan
from seqlab.recurrence.state import detach, leaves, merge, refill, select

__all__ = [
    "Choice",
    "Loop",
    "Recurrent",
    "alive",
    "choose",
    "detach",
    "last_valid",
    "leaves",
    "merge",
    "refill",
    "reverse_within",
    "scan",
    "select",
]
