"""Minimal gated unit: cell=mgu."""

import torch
from torch import Tensor, nn

from seqlab import Cell, State


class MGU(Cell):
    r"""Minimal gated unit (Zhou et al. 2016, arXiv 1603.09420, section 3): a GRU with one gate.

    .. math::
        f = σ(W_f x + U_f h + b_f), \quad \tilde h = \tanh(W x + U (f ⊙ h) + b), \quad
        h' = (1 - f) ⊙ h + f ⊙ \tilde h

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output.
    """

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 2 * hidden_size)
        self.gate = nn.Linear(hidden_size, hidden_size, bias=False)
        self.candidate = nn.Linear(hidden_size, hidden_size, bias=False)

    def project(self, x: Tensor) -> Tensor:
        """Map the inputs of all time steps to gate and candidate."""
        return self.from_input(x)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Compute one time step."""
        (h,) = state
        gate, candidate = x.chunk(2, dim=-1)
        f = torch.sigmoid(gate + self.gate(h))
        h = (1 - f) * h + f * torch.tanh(candidate + self.candidate(f * h))
        return h, (h,)
