"""What a step function gets for free: time, ragged lengths, depth, direction, dropout, truncation and fast kernels."""

import warnings
from typing import Any

from seqlab.contracts.masks import last_valid, reverse_within, valid_mask
from seqlab.recurrence.recurrent import Recurrent
from seqlab.recurrence.scan import detach, fill_state, merge, scan, select, state_tensors
from seqlab.recurrence.selection import Choice, Loop, choose

__all__ = [
    "Choice",
    "Loop",
    "Recurrent",
    "choose",
    "detach",
    "fill_state",
    "last_valid",
    "merge",
    "reverse_within",
    "scan",
    "select",
    "state_tensors",
    "valid_mask",
]


def __getattr__(name: str) -> Any:
    if name == "alive":
        warnings.warn("seqlab.recurrence.valid_mask is now valid_mask", DeprecationWarning, stacklevel=2)
        return valid_mask
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
