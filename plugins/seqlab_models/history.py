"""The tokens before a window: all that a model of a fixed number of tokens carries from one batch to the next."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from seqlab import Batch


def extend(
    batch: Batch, state: Any, size: int
) -> tuple[Int[Tensor, "batch size_and_time"], tuple[Int[Tensor, "batch size"]]]:
    """Set the last ``size`` tokens of each row's past before its window.

    Args:
        batch: token ids ``[batch, time]``; what stands in the padding is not seen.
        state: what this function returned for the batch before; ``None`` to begin anew.
        size: number of tokens to look back on, not counting the one at each time step.

    Returns:
        The token ids, 0 where there is no past and in the padding; and the state to carry on: each row's last ``size``
        tokens.

    Raises:
        ValueError: the state is one of another number of rows.
    """
    ids, lengths = batch.inputs, batch.lengths
    rows, time = ids.shape
    past = ids.new_zeros(rows, size) if state is None else state[0]
    if past.shape != (rows, size):
        raise ValueError(f"the state is {list(past.shape)}; it must be {[rows, size]} for a batch of {rows} rows")
    if lengths is None:
        known = torch.cat([past, ids], dim=1)
        return known, (known[:, time:],)
    steps = torch.arange(time, device=ids.device)
    known = torch.cat([past, ids.masked_fill(steps >= lengths.unsqueeze(1), 0)], dim=1)
    last = lengths.unsqueeze(1) + torch.arange(size, device=ids.device)
    return known, (known.gather(1, last),)
