"""Update gate recurrent network: cell=ugrnn."""

import torch
from torch import Tensor, nn

from seqlab import Cell, State


class UGRNN(Cell):
    r"""Update gate recurrent network (Collins et al. 2017, arXiv 1611.09913): an RNN with one gate.

    .. math::
        g = σ(W_g x + b_g + U_g h), \quad c = \tanh(W_c x + b_c + U_c h), \quad h' = g ⊙ h + (1 - g) ⊙ c

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output.
    """

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 2 * hidden_size)
        self.from_state = nn.Linear(hidden_size, 2 * hidden_size, bias=False)

    def project(self, x: Tensor) -> Tensor:
        """Map the inputs of all time steps to gate and candidate."""
        return self.from_input(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Compute one time step."""
        (h,) = state
        gate, candidate = (x + self.from_state(h)).chunk(2, dim=-1)
        g = torch.sigmoid(gate)
        h = g * h + (1 - g) * torch.tanh(candidate)
        return h, (h,)
