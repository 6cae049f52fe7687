"""The reference loop: what every faster path is held against."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.contracts.lengths import Lengths
from seqlab.contracts.masks import checked, valid_mask, zero_padding
from seqlab.recurrence.state import keep_dtypes, merge, same_structure


def scan(
    cell: Cell, x: Shaped[Tensor, "time batch input"], state: State, lengths: Lengths | None = None
) -> tuple[Shaped[Tensor, "time batch output"], State]:
    r"""Run a cell forward over time.

    .. math:: y_t, s_t = \mathrm{step}(x_t, s_{t-1}) \text{ while } t < \mathrm{length};
        \quad y_t = 0,\ s_t = s_{t-1} \text{ after it}

    Args:
        cell: the step.
        x: the input of every step; what stands in the padding is never looked at.
        state: the state before the first step.
        lengths: valid steps of each row, 0 to ``time``, a sequence of integers; ``None`` where all rows are full.

    Returns:
        The outputs, zero on padding, and the state after each row's last valid step.

    Raises:
        ValueError: the step changes the structure, a shape or a dtype of its state, or ``lengths`` do not fit ``x``.
    """
    if lengths is not None:
        lengths = checked(lengths, x)
        x = zero_padding(x, lengths)
        mask = valid_mask(lengths, x.shape[0])
    lowered = torch.is_autocast_enabled(x.device.type)
    outputs = []
    for t, x_t in enumerate(cell.project(x)):
        y, new = cell.step(x_t, state)
        if lowered:
            new = keep_dtypes(new, state)
        if t == 0 and (fault := same_structure(new, state)):
            raise ValueError(f"{type(cell).__name__}.step: {fault}")
        if lengths is not None:
            new = merge(mask[t], new, state)
            y = y.masked_fill(~mask[t].unsqueeze(1), 0)
        outputs.append(y)
        state = new
    if not outputs:
        return x.new_zeros(0, x.shape[1], cell.output_size), state
    return torch.stack(outputs), state
