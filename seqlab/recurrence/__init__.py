"""Recurrent networks of any cell: time, ragged lengths, depth, direction, dropout, truncation and kernels."""

from seqlab.recurrence.recurrent import Recurrent
from seqlab.recurrence.scan import (
    detach,
    fill_state,
    last_valid,
    merge,
    reverse_within,
    scan,
    select,
    state_tensors,
    valid_mask,
)
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
