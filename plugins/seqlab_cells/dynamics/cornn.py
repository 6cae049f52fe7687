"""Coupled oscillatory recurrent network."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, State
from seqlab.errors import check_range
from seqlab_cells.initialisation import initialise


@final
class CoRNN(Cell):
    r"""Coupled oscillatory recurrent network (Rusch & Mishra 2021, arXiv 2010.00951), as in the authors' code.

    .. math::
        z' = z + Δt\, (\tanh(V x + b + W y + \mathcal W z) - γ y - ε z), \quad y' = y + Δt\, z'

    An implicit-explicit step of driven, damped oscillators: :math:`y` is their position and the output, :math:`z` their
    velocity.

    Args:
        input_size: features of one input step.
        hidden_size: features of each half of the state and of the output; positive.
        dt: step size :math:`Δt`; positive.
        gamma: stiffness :math:`γ`, the square of the frequency; positive.
        epsilon: damping :math:`ε`; positive.

    Raises:
        ValueError: a size or an option is not positive.
    """

    state_names = ("y", "z")

    def __init__(
        self, input_size: int, hidden_size: int = 128, dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7
    ) -> None:
        super().__init__(input_size, hidden_size)
        for name, value in (("dt", dt), ("gamma", gamma), ("epsilon", epsilon)):
            check_range(name, value, above=0)
        self.dt, self.gamma, self.epsilon = dt, gamma, epsilon
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        initialise(self)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch hidden"]:
        """Map the inputs of all steps: :math:`V x + b`."""
        projected: Tensor = self.from_input(x)
        return projected

    def step(self, x: Float[Tensor, "batch hidden"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(y, z)``, each ``[batch, hidden]``."""
        y, z = state
        force = torch.tanh(x + self.from_state(torch.cat([y, z], dim=-1)))
        z = z + self.dt * (force - self.gamma * y - self.epsilon * z)
        y = y + self.dt * z
        return y, (y, z)

    def probe(self, x: Float[Tensor, "time batch hidden"], states: State) -> Probe:
        """Return the activation, and the Jacobian of each step."""
        force = torch.tanh(x + self.from_state(torch.cat([each[:-1] for each in states], dim=-1)))
        slope = self.dt * (1 - force**2)

        def product(t: int, gradients: State) -> State:
            to_y, to_z = gradients
            by_y, by_z = ((to_z * slope[t]) @ self.from_state.weight).chunk(2, dim=-1)
            to_y = to_y + by_y - self.dt * self.gamma * to_z
            return to_y, (1 - self.dt * self.epsilon) * to_z + by_z + self.dt * to_y  # y is computed from z

        return Probe({"tanh": Gate(force, -1.0, 1.0)}, product)
