"""LSTM with a forget gate alone."""

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, Remedy, State
from seqlab.errors import check_range
from seqlab_cells.initialisation import FORGET_BIAS, initialise


@final
class JANET(Cell):
    r"""LSTM with a forget gate alone (van der Westhuizen & Lasenby 2018, arXiv 1804.04849).

    .. math::
        s = W_f x + b_f + U_f h, \quad g = \tanh(W_g x + b_g + U_g h), \quad h' = σ(s) ⊙ h + (1 - σ(s - β)) ⊙ g

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        beta: shift :math:`β` of the gate of the candidate; 1 in the paper.
        chrono_steps: longest dependency :math:`T` of the paper's chrono initialisation (Tallec & Ollivier 2018),
            :math:`b_f = \ln u, u \sim U(1, T - 1)` and :math:`b_g = 0`; at least 3. ``None`` adds 2 to :math:`b_f`
            instead, as in ``LSTM``.

    Raises:
        ValueError: a size is not positive, or ``chrono_steps`` is less than 3.
    """

    def __init__(
        self, input_size: int, hidden_size: int = 128, beta: float = 1.0, chrono_steps: int | None = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.beta = beta
        self.from_input = nn.Linear(input_size, 2 * hidden_size)
        self.from_state = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        initialise(self)
        with torch.no_grad():
            b_f, b_g = self.from_input.bias.chunk(2)
            if chrono_steps is None:
                b_f += FORGET_BIAS
            else:
                check_range("chrono_steps", chrono_steps, 3)
                b_f.uniform_(1, chrono_steps - 1).log_()
                b_g.zero_()

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to gate and candidate, in the order f, g: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        s, g = (x + self.from_state(h)).chunk(2, dim=-1)
        h = torch.sigmoid(s) * h + torch.sigmoid(self.beta - s) * torch.tanh(g)
        return h, (h,)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        r"""Return gate and candidate, what the gate keeps, and the Jacobian of each step.

        .. math::
            \frac{∂h'}{∂h} = \mathrm{diag}(f) + \mathrm{diag}(h f (1 - f) - g i (1 - i)) U_f
            + \mathrm{diag}(i (1 - g^2)) U_g, \quad f = σ(s),\; i = σ(β - s)
        """
        h = states[0][:-1]
        s, g = (x + self.from_state(h)).chunk(2, dim=-1)
        f, i, g = torch.sigmoid(s), torch.sigmoid(self.beta - s), torch.tanh(g)
        to_gates = torch.cat([h * f * (1 - f) - g * i * (1 - i), i * (1 - g**2)], dim=-1)

        def product(t: int, gradients: State) -> State:
            (to_h,) = gradients
            return (to_h * f[t] + (to_h.repeat(1, 2) * to_gates[t]) @ self.from_state.weight,)

        return Probe({"forget": Gate(f), "candidate": Gate(g, -1.0, 1.0)}, product, forget={"h": f})

    @classmethod
    def remedy(
        cls, cause: Literal["gradient", "saturation"], distance: int, options: Mapping[str, Any]
    ) -> Remedy | None:
        """Propose the chrono initialisation for ``distance`` steps, unless it is for as many already."""
        if (options.get("chrono_steps") or 0) >= max(3, distance):
            return None
        return Remedy("the chrono initialisation (Tallec & Ollivier 2018)", {"chrono_steps": max(3, distance)})
