"""Input encodings of models: token ids and features to vectors, and token history."""

from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seqlab import Batch, InputSpec
from seqlab.recurrence import last_valid


@final
class OneHot(nn.Module):
    """Unit vectors: id ``i`` becomes ``e_i``, in the model's dtype and on its device.

    Args:
        size: number of ids, and of features.
    """

    one: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, ids: Int[Tensor, "time batch"]) -> Float[Tensor, "time batch size"]:
        """Encode ids."""
        return self.one.new_zeros(*ids.shape, self.size).scatter_(-1, ids.unsqueeze(-1), 1)


@final
class StepEncoder(nn.Module):
    """Vectors of one size for each step: an embedding of token ids, or a linear map of features.

    Args:
        inputs: what a step is.
        size: features of a vector.
    """

    def __init__(self, inputs: InputSpec, size: int) -> None:
        super().__init__()
        tokens = inputs.kind == "tokens"
        self.encode = nn.Embedding(inputs.size, size, padding_idx=0) if tokens else nn.Linear(inputs.size, size)

    def forward(self, batch: Batch) -> Float[Tensor, "batch time size"]:
        """Encode a batch; padding becomes zero."""
        mask, steps = padding_mask(batch), batch.inputs
        if mask is not None:
            steps = steps.masked_fill(mask if steps.dim() == 2 else mask.unsqueeze(2), 0)
        x: Tensor = self.encode(steps)
        return x if mask is None else x.masked_fill(mask.unsqueeze(2), 0)


def padding_mask(batch: Batch) -> Bool[Tensor, "batch time"] | None:
    """Return which steps are padding; ``None`` if there is none."""
    if batch.lengths is None:
        return None
    return torch.arange(batch.inputs.shape[1], device=batch.inputs.device) >= batch.lengths.unsqueeze(1)


def head_inputs(features: Float[Tensor, "batch time size"], batch: Batch, per_step: bool) -> Tensor:
    """Return the features of every step, zero on padding, or of each row's last valid step (zero if it has none)."""
    mask = padding_mask(batch)
    if mask is not None:
        features = features.masked_fill(mask.unsqueeze(2), 0)
    return features if per_step else last_valid(features.transpose(0, 1), batch.lengths)


def with_history(
    batch: Batch, state: Any, size: int
) -> tuple[Int[Tensor, "batch size_and_time"], tuple[Int[Tensor, "batch size"]]]:
    """Prepend each row's last ``size`` tokens before the batch.

    Args:
        batch: token ids ``[batch, time]``; padding is ignored.
        state: what this function returned for the previous batch; ``None`` at the start.
        size: number of previous tokens.

    Returns:
        The token ids, 0 without history and in the padding; and the state: each row's last ``size`` tokens.

    Raises:
        ValueError: the state has another number of rows.
    """
    ids, lengths = batch.inputs, batch.lengths
    rows, time = ids.shape
    past = ids.new_zeros(rows, size) if state is None else state[0]
    if past.shape != (rows, size):
        raise ValueError(f"the state must be {[rows, size]} for a batch of {rows} rows, got {list(past.shape)}")
    if lengths is None:
        known = torch.cat([past, ids], dim=1)
        return known, (known[:, time:],)
    steps = torch.arange(time, device=ids.device)
    known = torch.cat([past, ids.masked_fill(steps >= lengths.unsqueeze(1), 0)], dim=1)
    last_tokens = lengths.unsqueeze(1) + torch.arange(size, device=ids.device)
    return known, (known.gather(1, last_tokens),)
