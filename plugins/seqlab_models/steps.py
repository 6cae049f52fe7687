"""What models without cells share: from the steps of a batch to vectors, and from vectors to what the head reads."""

import math
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqlab import Batch, InputSpec
from seqlab_models.pooling import last


@final
class Steps(nn.Module):
    """Vectors of one size for the steps of a batch: an embedding of token ids, or a linear map of features.

    Args:
        inputs: what a step is.
        size: features of a vector.
    """

    def __init__(self, inputs: InputSpec, size: int) -> None:
        super().__init__()
        tokens = inputs.kind == "tokens"
        self.encode = nn.Embedding(inputs.size, size, padding_idx=0) if tokens else nn.Linear(inputs.size, size)

    def forward(self, batch: Batch) -> Float[Tensor, "batch time size"]:
        """Encode; the padding is zero, whatever stands in it."""
        dead, steps = padding(batch), batch.inputs
        if dead is not None:
            steps = steps.masked_fill(dead if steps.dim() == 2 else dead.unsqueeze(2), 0)
        x: Tensor = self.encode(steps)
        return x if dead is None else x.masked_fill(dead.unsqueeze(2), 0)


def padding(batch: Batch) -> Bool[Tensor, "batch time"] | None:
    """Say which steps are padding; ``None`` where none is."""
    if batch.lengths is None:
        return None
    return torch.arange(batch.inputs.shape[1], device=batch.inputs.device) >= batch.lengths.unsqueeze(1)


def for_head(features: Float[Tensor, "batch time size"], batch: Batch, per_step: bool) -> Tensor:
    """Give the features of every step, zero on padding, or those of each row's last valid one; of none, zeros."""
    dead = padding(batch)
    if dead is not None:
        features = features.masked_fill(dead.unsqueeze(2), 0)
    return features if per_step else last(features.transpose(0, 1), batch.lengths, features.shape[2])


def sinusoids(time: int, like: Float[Tensor, "batch time size"]) -> Float[Tensor, "time size"]:
    r"""Mark positions (Vaswani et al. 2017, section 3.5), with :math:`d` features.

    .. math::
        p_{t, 2i} = \sin(t / 10000^{2i/d}), \quad p_{t, 2i+1} = \cos(t / 10000^{2i/d})

    Args:
        time: number of positions.
        like: gives the size, the dtype and the device.
    """
    size = like.shape[2]
    place = torch.arange(time, device=like.device, dtype=torch.float32).unsqueeze(1)
    pairs = torch.arange(-(-size // 2), device=like.device, dtype=torch.float32)
    angle = place * torch.exp(-math.log(10_000.0) * 2 * pairs / size)
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :size].to(like.dtype)
