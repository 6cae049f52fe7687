"""What a step function gets for free: time, ragged lengths, depth, direction, dropout, truncation and fast kernels."""

import warnings
from typing import Any

from seqlab.contracts.masks import last_valid, reverse_within, valid_mask
from seqlab.recurrence.choose import Choice, Loop, choose
from seqlab.recurrence.recurrent import Recurrent
from seqlab.recurrence.scan import scan
from seqlab.recurrence.state import detach, leaves, merge, refill, select

__all__ = [
    "Choice",
    "Loop",
    "Recurrent",
    "choose",
    "detach",
    "last_valid",
    "leaves",
    "merge",
    "refill",
    "reverse_within",
    "scan",
    "select",
    "valid_mask",
]


def __getattr__(name: str) -> Any:
    if name == "alive":
        warnings.warn("seqlab.recurrence.alive is now valid_mask", DeprecationWarning, stacklevel=2)
        return valid_mask
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
