"""Recurrent network with fast weights."""

from typing import Literal, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, State
from seqlab.errors import check_choice, check_range
from seqlab_cells.initialisation import initialise


@final
class FastWeights(Cell):
    r"""Recurrent network with fast weights (Ba et al. 2016, arXiv 1610.06258).

    .. math::
        A' = λ A + η\, h h^\top, \quad u = W x + b + U h, \quad g_0 = φ(u), \quad g_{s+1} = φ(\mathrm{LN}(u + A' g_s))

    and :math:`h' = g_S`. The matrix :math:`A` remembers the recent states, and draws the new one towards those that are
    similar to it. :math:`\mathrm{LN}` is layer normalisation; :math:`U` starts at :math:`0.05 I`.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state :math:`h` and of the output; at least 2.
        decay: :math:`λ`, between 0 and 1.
        rate: :math:`η`; positive.
        inner_steps: :math:`S`, at least 1.
        nonlinearity: :math:`φ`, ``relu`` or ``tanh``.

    Raises:
        ValueError: a size or an option is out of its range.
    """

    state_names = ("h", "a")

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        decay: float = 0.95,
        rate: float = 0.5,
        inner_steps: int = 1,
        nonlinearity: Literal["relu", "tanh"] = "relu",
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_range("hidden_size", hidden_size, 2)  # a single unit, normalised, is a constant
        check_range("decay", decay, 0, 1)
        check_range("rate", rate, above=0)
        check_range("inner_steps", inner_steps, 1)
        check_choice("nonlinearity", nonlinearity, Literal["relu", "tanh"])
        self.decay, self.rate, self.inner_steps, self.nonlinearity = decay, rate, inner_steps, nonlinearity
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Linear(hidden_size, hidden_size, bias=False)
        initialise(self)
        self.norm = nn.LayerNorm(hidden_size)
        with torch.no_grad():
            nn.init.eye_(self.from_state.weight).mul_(0.05)

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Return zeros ``[batch, hidden]`` and ``[batch, hidden, hidden]``."""
        size = self.hidden_size
        return like.new_zeros(len(like), size), like.new_zeros(len(like), size, size)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch hidden"]:
        """Map the inputs of all steps: :math:`W x + b`."""
        projected: Tensor = self.from_input(x)
        return projected

    def step(self, x: Float[Tensor, "batch hidden"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h, a)``."""
        h, a = state
        activate = torch.relu if self.nonlinearity == "relu" else torch.tanh
        a = self.decay * a + self.rate * h.unsqueeze(-1) * h.unsqueeze(-2)
        u = x + self.from_state(h)
        g = activate(u)
        for _ in range(self.inner_steps):
            g = activate(self.norm(u + (a * g.unsqueeze(-2)).sum(-1)))
        return g, (g.to(h.dtype), a)

    def probe(self, x: Float[Tensor, "time batch hidden"], states: State) -> Probe:
        """Return the activations, and what is kept of the matrix."""
        h, a = states[0][1:], states[1][1:]
        gate = Gate(h, -1.0, 1.0) if self.nonlinearity == "tanh" else Gate(h, 0.0, float("inf"))
        return Probe({self.nonlinearity: gate}, forget={"a": torch.full_like(a, self.decay)})
