"""Clockwork recurrent network."""

from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, State
from seqlab.errors import check_range
from seqlab_cells.initialisation import initialise


@final
class ClockworkRNN(Cell):
    r"""Clockwork recurrent network (Koutník et al. 2014, arXiv 1402.3511).

    .. math::
        h'_i = \tanh(W_i x + b_i + \sum_{j \ge i} U_{ij} h_j) \text{ if } t \bmod 2^i = 0, \text{ else } h_i

    The units form modules :math:`i = 0, 1, …` of the periods :math:`2^i`; a module reads itself and slower ones.
    The steps :math:`t` of a row count from 0, so that the first one updates every module.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        modules: number of modules, at most 62; their sizes differ by one unit at most.

    Raises:
        ValueError: a size or an option is out of its range.
    """

    state_names = ("h", "t")
    periods: Tensor
    connected: Tensor

    def __init__(self, input_size: int, hidden_size: int = 128, modules: int = 5) -> None:
        super().__init__(input_size, hidden_size)
        check_range("modules", modules, 1, 62)
        self.from_input = nn.Linear(input_size, hidden_size)
        self.from_state = nn.Parameter(torch.empty(hidden_size, hidden_size))
        initialise(self)
        periods = 2 ** (torch.arange(hidden_size) * modules // hidden_size)
        self.register_buffer("periods", periods, persistent=False)
        self.register_buffer("connected", periods >= periods.unsqueeze(1), persistent=False)

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Return :math:`h = 0` and, as integers ``[batch, 1]``, :math:`t = 0`."""
        return like.new_zeros(len(like), self.hidden_size), like.new_zeros(len(like), 1, dtype=torch.long)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch hidden"]:
        """Map the inputs of all steps: :math:`W x + b`."""
        projected: Tensor = self.from_input(x)
        return projected

    def step(self, x: Float[Tensor, "batch hidden"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h, t)``."""
        h, t = state
        updated = torch.tanh(x + h @ (self.from_state * self.connected).T).to(h.dtype)
        h = torch.where(t % self.periods == 0, updated, h)
        return h, (h, t + 1)

    def probe(self, x: Float[Tensor, "time batch hidden"], states: State) -> Probe:
        """Return the state, which is a tanh."""
        return Probe({"tanh": Gate(states[0][1:], -1.0, 1.0)})
