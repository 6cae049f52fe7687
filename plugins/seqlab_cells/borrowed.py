"""Linear maps whose weights are parameters of another module."""

import copy
import weakref
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor, nn


@final
class BorrowedLinear(nn.Module):
    """Linear map by two parameters of another module, read at each call, so that either may be replaced there.

    Args:
        owner: the module.
        name: end of the names of the two: ``ih_l0`` for ``weight_ih_l0`` and ``bias_ih_l0``.
    """

    def __init__(self, owner: nn.RNNBase, name: str) -> None:
        super().__init__()
        self._owner = weakref.ref(owner)  # no submodule and no cycle, which would keep its memory until a collection
        self.name = name

    def __deepcopy__(self, memo: dict[int, Any]) -> "BorrowedLinear":
        """Borrow from the copy of the owner."""
        owner = self._owner()
        assert owner is not None
        return BorrowedLinear(copy.deepcopy(owner, memo), self.name)

    @property
    def weight(self) -> Tensor:
        """The owner's weight."""
        found: Tensor = getattr(self._owner(), f"weight_{self.name}")
        return found

    @property
    def bias(self) -> Tensor:
        """The owner's bias; zeros if it has none."""
        owner = self._owner()
        assert owner is not None
        if not owner.bias:
            return self.weight.new_zeros(self.weight.shape[0])
        found: Tensor = getattr(owner, f"bias_{self.name}")
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return :math:`W x + b`."""
        return F.linear(x, self.weight, self.bias)
