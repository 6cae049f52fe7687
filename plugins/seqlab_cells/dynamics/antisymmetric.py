"""Recurrent network with an antisymmetric transition."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from seqlab import Cell, Gate, Probe, State
from seqlab.errors import check_range
from seqlab_cells.initialisation import initialise


@final
class AntisymmetricRNN(Cell):
    r"""Recurrent network with an antisymmetric transition (Chang et al. 2019, arXiv 1902.09689).

    .. math::
        h' = h + ε\, \tanh(V x + b + M h), \quad M = W - W^\top - γ I

    A step of Euler's method with step size :math:`ε`. The eigenvalues of :math:`W - W^\top` are imaginary, so that
    states rotate; the diffusion :math:`γ` stabilises the discretisation. With ``gated``, the step is
    :math:`ε\, σ(V_z x + b_z + M h) ⊙ \tanh(V x + b + M h)`.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        step_size: :math:`ε`; positive.
        diffusion: :math:`γ`; not negative.
        gated: whether a gate that shares :math:`M` scales the step.

    Raises:
        ValueError: a size or an option is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        step_size: float = 0.1,
        diffusion: float = 0.01,
        gated: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_range("step_size", step_size, above=0)
        check_range("diffusion", diffusion, 0)
        self.step_size, self.diffusion, self.gated = step_size, diffusion, gated
        self.from_input = nn.Linear(input_size, (1 + gated) * hidden_size)
        self.from_state = nn.Parameter(torch.empty(hidden_size, hidden_size))
        initialise(self)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch both"]:
        """Map the inputs of all steps: :math:`V x + b`, and :math:`V_z x + b_z` behind it."""
        projected: Tensor = self.from_input(x)
        return projected

    def step(self, x: Float[Tensor, "batch both"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        g, z = self._activations(x, h)
        h = h + self.step_size * g * z
        return h, (h,)

    def probe(self, x: Float[Tensor, "time batch both"], states: State) -> Probe:
        r"""Return the activations, and the Jacobian of each step.

        .. math:: \frac{∂h'}{∂h} = I + ε\, \mathrm{diag}(z (1 - g^2) + g z (1 - z)) M
        """
        g, z = self._activations(x, states[0][:-1])
        slope, W = self.step_size * z * (1 - g**2 + g * (1 - z)), self.from_state

        def product(t: int, gradients: State) -> State:
            inner = gradients[0] * slope[t]
            return (gradients[0] + inner @ W - linear(inner, W) - self.diffusion * inner,)

        gates = {"tanh": Gate(g, -1.0, 1.0), **({"gate": Gate(z)} if self.gated else {})}
        return Probe(gates, product)

    def _activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tanh and the gate, which is 1 without ``gated``."""
        W = self.from_state
        moved = linear(h, W) - h @ W - self.diffusion * h
        if not self.gated:
            g = torch.tanh(x + moved)
            return g, torch.ones_like(g)
        v, z = x.chunk(2, dim=-1)
        return torch.tanh(v + moved), torch.sigmoid(z + moved)
