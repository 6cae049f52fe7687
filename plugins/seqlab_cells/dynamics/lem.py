"""Long expressive memory."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, State
from seqlab.errors import check_range
from seqlab_cells.initialisation import initialise


@final
class LEM(Cell):
    r"""Long expressive memory (Rusch et al. 2022, arXiv 2110.04744), as in the authors' code.

    .. math::
        δ = Δt\, σ(V_1 x + b_1 + W_1 y), \quad \bar δ = Δt\, σ(V_2 x + b_2 + W_2 y)
        z' = (1 - δ) ⊙ z + δ ⊙ \tanh(V_z x + b_z + W_z y), \quad
        y' = (1 - \bar δ) ⊙ y + \bar δ ⊙ \tanh(V_y x + b_y + W_y z')

    Each unit of either equation has its own step size in time, which the gates learn.

    Args:
        input_size: features of one input step.
        hidden_size: features of each half of the state and of the output; positive.
        dt: largest step size :math:`Δt`; greater than 0, at most 1.

    Raises:
        ValueError: a size or an option is out of its range.
    """

    state_names = ("y", "z")

    def __init__(self, input_size: int, hidden_size: int = 128, dt: float = 1.0) -> None:
        super().__init__(input_size, hidden_size)
        check_range("dt", dt, at_most=1, above=0)
        self.dt = dt
        self.from_input = nn.Linear(input_size, 4 * hidden_size)
        self.from_y = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.from_z = nn.Linear(hidden_size, hidden_size, bias=False)
        initialise(self)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps, in the order 1, 2, z, y: :math:`V x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(y, z)``, each ``[batch, hidden]``."""
        y, z = state
        rate, rate_y, candidate = self._rates(x, y)
        z = (1 - rate) * z + rate * candidate
        y = (1 - rate_y) * y + rate_y * torch.tanh(x[..., 3 * self.hidden_size :] + self.from_z(z))
        return y, (y, z)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        """Return step sizes and activations, what each equation keeps, and the Jacobian of each step."""
        y, z = states[0][:-1], states[1][:-1]
        rate, rate_y, g = self._rates(x, y)
        g_y = torch.tanh(x[..., 3 * self.hidden_size :] + self.from_z(states[1][1:]))

        def product(t: int, gradients: State) -> State:
            to_y, to_z = gradients
            by_rate = to_z * (g[t] - z[t]) * rate[t] * (1 - rate[t] / self.dt)
            by_rate_y = to_y * (g_y[t] - y[t]) * rate_y[t] * (1 - rate_y[t] / self.dt)
            by_g = to_z * rate[t] * (1 - g[t] ** 2)
            to_y = to_y * (1 - rate_y[t]) + torch.cat([by_rate, by_rate_y, by_g], dim=-1) @ self.from_y.weight
            through_y = (to_y * rate_y[t - 1] * (1 - g_y[t - 1] ** 2)) @ self.from_z.weight  # y is computed from z
            return to_y, to_z * (1 - rate[t]) + through_y

        gates = {
            "step_z": Gate(rate, 0.0, self.dt),
            "step_y": Gate(rate_y, 0.0, self.dt),
            "candidate_z": Gate(g, -1.0, 1.0),
            "candidate_y": Gate(g_y, -1.0, 1.0),
        }
        return Probe(gates, product, forget={"y": 1 - rate_y, "z": 1 - rate})

    def _rates(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both step sizes and the candidate of :math:`z`."""
        one, two, g = (x[..., : 3 * self.hidden_size] + self.from_y(y)).chunk(3, dim=-1)
        return self.dt * torch.sigmoid(one), self.dt * torch.sigmoid(two), torch.tanh(g)
