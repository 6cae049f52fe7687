"""Elman's recurrent network."""

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, State
from seqlab_cells.linear import initialise


@final
class RNN(Cell):
    r"""Simple recurrent network (Elman 1990, "Finding structure in time"; the parameters of ``torch.nn.RNN``).

    .. math::
        h' = φ(W x + b + U h + c), \quad φ = \tanh \text{ or } \mathrm{relu}

    Relu remembers through an identity-like :math:`U` (Le et al. 2015) and is unbounded.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        nonlinearity: ``tanh`` or ``relu``.

    Raises:
        ValueError: a size is not positive, or the nonlinearity is another one.
    """

    def __init__(self, input_size: int, hidden_size: int = 128, nonlinearity: Literal["tanh", "relu"] = "tanh") -> None:
        super().__init__(input_size, hidden_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}; it must be tanh or relu")
        self.nonlinearity = nonlinearity
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Linear(hidden_size, hidden_size)
        initialise(self)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch hidden"]:
        """Map the inputs of all steps: :math:`W x + b`."""
        projected: Tensor = self.from_input(x)
        return projected

    def step(self, x: Float[Tensor, "batch hidden"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        total = x + self.from_state(h)
        h = torch.tanh(total) if self.nonlinearity == "tanh" else torch.relu(total)
        return h, (h,)

    def extra_repr(self) -> str:
        """Show the nonlinearity."""
        return f"nonlinearity={self.nonlinearity}"
