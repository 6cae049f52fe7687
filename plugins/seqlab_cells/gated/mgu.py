"""Minimal gated unit."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, State
from seqlab_cells.initialisation import initialise


@final
class MGU(Cell):
    r"""Minimal gated unit (Zhou et al. 2016, arXiv 1603.09420): a GRU with one gate.

    .. math::
        f = σ(W_f x + b_f + U_f h), \quad g = \tanh(W_g x + b_g + U_g (f ⊙ h)), \quad h' = (1 - f) ⊙ h + f ⊙ g

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 2 * hidden_size)
        self.to_gate = nn.Linear(hidden_size, hidden_size, bias=False)
        self.to_candidate = nn.Linear(hidden_size, hidden_size, bias=False)
        initialise(self)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to gate and candidate, in the order f, g: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        f, g = x.chunk(2, dim=-1)
        f = torch.sigmoid(f + self.to_gate(h))
        h = (1 - f) * h + f * torch.tanh(g + self.to_candidate(f * h))
        return h, (h,)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        r"""Return gate and candidate, what the gate keeps, and the Jacobian of each step.

        .. math::
            \frac{∂h'}{∂h} = \mathrm{diag}(1 - f) + \mathrm{diag}((g - h) f (1 - f)) U_f
            + \mathrm{diag}(f (1 - g^2)) U_g (\mathrm{diag}(f) + \mathrm{diag}(h f (1 - f)) U_f)
        """
        h = states[0][:-1]
        f, g = x.chunk(2, dim=-1)
        f = torch.sigmoid(f + self.to_gate(h))
        g = torch.tanh(g + self.to_candidate(f * h))
        slope, to_g = f * (1 - f), f * (1 - g**2)

        def product(t: int, gradients: State) -> State:
            (to_h,) = gradients
            inner = (to_h * to_g[t]) @ self.to_candidate.weight
            to_f = slope[t] * (to_h * (g[t] - h[t]) + inner * h[t])
            return (to_h * (1 - f[t]) + inner * f[t] + to_f @ self.to_gate.weight,)

        return Probe({"update": Gate(f), "candidate": Gate(g, -1.0, 1.0)}, product, forget={"h": 1 - f})
