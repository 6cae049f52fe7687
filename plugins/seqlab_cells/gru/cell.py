"""Gated recurrent unit."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, State
from seqlab_cells.linear import initialise


@final
class GRU(Cell):
    r"""Gated recurrent unit, reset after the product (Cho et al. 2014; the variant of cuDNN and ``torch.nn.GRU``).

    .. math::
        r = σ(W_r x + b_r + U_r h + c_r), \quad z = σ(W_z x + b_z + U_z h + c_z)
        n = \tanh(W_n x + b_n + r ⊙ (U_n h + c_n)), \quad h' = (1 - z) ⊙ n + z ⊙ h

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 3 * hidden_size)
        self.from_state = nn.Linear(hidden_size, 3 * hidden_size)
        initialise(self)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to the gates, in the order r, z, n: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        r_x, z_x, n_x = x.chunk(3, dim=-1)
        r_h, z_h, n_h = self.from_state(h).chunk(3, dim=-1)
        reset = torch.sigmoid(r_x + r_h)
        update = torch.sigmoid(z_x + z_h)
        candidate = torch.tanh(n_x + reset * n_h)
        h = (1 - update) * candidate + update * h
        return h, (h,)
