"""Very long sequences: every so-many-th state is kept, and the steps between are run again for the gradient."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqlab import State
from seqlab.recurrence import reverse_within
from seqlab_cells.fused.library import Tail
from seqlab_cells.fused.ops import fused_scan


def in_segments(
    x: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    tail: Tail,
    every: int,
) -> tuple[Tensor, list[State]]:
    """Scan a layer of one or two directions, segment by segment.

    Args:
        x: ``[time, batch, input]``.
        lengths: valid steps of each row.
        states: as :func:`.ops.fused_scan` takes them.
        weights: the same.
        tail: which cell it is.
        every: steps of a segment; 0 takes the root of all steps.
    """
    outputs, ends = [], []
    for d in range(len(weights) // 4):
        turned = x if d == 0 else reverse_within(x, lengths)
        state = tuple(states[tail.leaves * d : tail.leaves * (d + 1)])
        y, end = _direction(turned, lengths, state, weights[4 * d : 4 * d + 4], tail, every)
        outputs.append(y if d == 0 else reverse_within(y, lengths))
        ends.append(end)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)), ends


def _direction(
    x: Tensor, lengths: Tensor | None, state: State, weights: Sequence[Tensor], tail: Tail, every: int
) -> tuple[Tensor, State]:
    size = every or max(1, math.isqrt(len(x)))

    def run(x: Tensor, left: Tensor | None, *rest: Tensor) -> tuple[Tensor, ...]:
        save = "gates" if torch.is_grad_enabled() else "none"
        y, h, c, _ = fused_scan(x, left, rest[: tail.leaves], rest[tail.leaves :], tail.name, save)
        return (y, h[0], c[0]) if tail.leaves == 2 else (y, h[0])

    parts = []
    for begin in range(0, max(1, len(x)), size):
        segment = x[begin : begin + size]
        left = None if lengths is None else (lengths - begin).clamp(0, len(segment))
        # The weights are arguments, so that autograd raises an error where one is changed in place before backward.
        given = (segment, left, *state, *weights)
        y, *state_after = checkpoint(run, *given, use_reentrant=False, preserve_rng_state=False)
        parts.append(y)
        state = tuple(state_after)
    return torch.cat(parts), state
