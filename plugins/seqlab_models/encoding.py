"""From token ids to vectors."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@final
class OneHot(nn.Module):
    """Unit vectors: id ``i`` becomes ``e_i``, in the dtype and on the device of the model it belongs to.

    Args:
        size: number of ids, and so of features.
    """

    one: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, ids: Int[Tensor, "time batch"]) -> Float[Tensor, "time batch size"]:
        """Encode ids."""
        return self.one.new_zeros(*ids.shape, self.size).scatter_(-1, ids.unsqueeze(-1), 1)

    def extra_repr(self) -> str:
        """Show the size."""
        return str(self.size)
