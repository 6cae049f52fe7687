"""Independently recurrent network."""

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, State
from seqlab_cells.initialisation import initialise


@final
class IndRNN(Cell):
    r"""Independently recurrent network (Li et al. 2018, "IndRNN: Building a longer and deeper RNN", section 3).

    .. math::
        h' = φ(W x + b + u ⊙ h), \quad φ = \mathrm{relu} \text{ or } \tanh

    A unit reads its own state alone: its gradient over :math:`n` steps goes as :math:`u^n`, and units mix in the next
    layer. :math:`u` is drawn from :math:`U(0, 1)`: the paper's range is 0 to :math:`γ^{1/T}` for sequences of length
    :math:`T`, whose upper end is nearly 1 where :math:`T` is large. Training does not constrain it.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        nonlinearity: ``relu`` or ``tanh``.

    Raises:
        ValueError: a size is not positive, or the nonlinearity is another one.
    """

    def __init__(self, input_size: int, hidden_size: int = 128, nonlinearity: Literal["relu", "tanh"] = "relu") -> None:
        super().__init__(input_size, hidden_size)
        if nonlinearity not in ("relu", "tanh"):
            raise ValueError(f"nonlinearity must be relu or tanh, got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        self.from_input = nn.Linear(input_size, hidden_size)
        initialise(self)
        self.from_itself = nn.Parameter(torch.rand(hidden_size))

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch hidden"]:
        """Map the inputs of all steps: :math:`W x + b`."""
        projected: Tensor = self.from_input(x)
        return projected

    def step(self, x: Float[Tensor, "batch hidden"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        total = x + self.from_itself * h
        h = torch.relu(total) if self.nonlinearity == "relu" else torch.tanh(total)
        return h, (h,)

    def probe(self, x: Float[Tensor, "time batch hidden"], states: State) -> Probe:
        r"""Return the activations, and the Jacobian :math:`\mathrm{diag}(φ'_t ⊙ u)` of each step with its norm."""
        h = states[0][1:]
        slope = (h > 0).to(h.dtype) if self.nonlinearity == "relu" else 1 - h**2
        factor = slope * self.from_itself

        def product(t: int, gradients: State) -> State:
            return (gradients[0] * factor[t],)

        gate = Gate(h, -1.0, 1.0) if self.nonlinearity == "tanh" else Gate(h, 0.0, float("inf"))
        return Probe({self.nonlinearity: gate}, product, factor.abs().amax(-1))

    def extra_repr(self) -> str:
        """Show the nonlinearity."""
        return f"nonlinearity={self.nonlinearity}"
