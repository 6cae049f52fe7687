"""Recurrent networks of any cell: time, ragged lengths, depth, direction, dropout, truncation and kernels."""

from seqlab._deprecated import old_names
from seqlab.contracts.masks import last_of_each, last_valid, reverse_within, valid_mask
from seqlab.recurrence.chunks import CheckpointSteps, RandomStreams, dropout, read_chunks
from seqlab.recurrence.recurrent import Recurrent
from seqlab.recurrence.scan import detach, fill_state, merge, scan, select, state_tensors
from seqlab.recurrence.selection import Choice, Loop, choose
from seqlab.recurrence.torch_modules import torch_kind

__all__ = [
    "CheckpointSteps",
    "Choice",
    "Loop",
    "RandomStreams",
    "Recurrent",
    "choose",
    "detach",
    "dropout",
    "fill_state",
    "last_of_each",
    "last_valid",
    "merge",
    "read_chunks",
    "reverse_within",
    "scan",
    "select",
    "state_tensors",
    "torch_kind",
    "valid_mask",
]


__getattr__ = old_names(__name__, {"alive": "valid_mask", "leaves": "state_tensors", "refill": "fill_state"})
