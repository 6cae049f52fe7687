"""LSTM with exponential gates: the scalar memory of xLSTM."""

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from seqlab import Cell, Gate, Probe, State
from seqlab.errors import check_choice
from seqlab_cells.initialisation import check_heads, initialise


@final
class SLSTM(Cell):
    r"""LSTM with an exponential input gate and a normaliser (Beck et al. 2024, "xLSTM", arXiv 2405.04517).

    .. math::
        z = \tanh(\bar z), \quad o = σ(\bar o), \quad m' = \max(\log f + m, \bar i), \quad
        \hat i = e^{\bar i - m'}, \quad \hat f = e^{\log f + m - m'}
        c' = \hat f ⊙ c + \hat i ⊙ z, \quad n' = \hat f ⊙ n + \hat i, \quad h' = o ⊙ c' / n'

    where each of :math:`\bar i, \bar f, \bar z, \bar o` is :math:`W x + b + R h`, with one block of :math:`R` for each
    head, and :math:`f = σ(\bar f)` or :math:`e^{\bar f}`. :math:`m` keeps the exponentials in range and changes no
    output; where :math:`n = 0`, before the first step, :math:`m' = \bar i`.

    Args:
        input_size: features of one input step.
        hidden_size: features of each state tensor and of the output; positive.
        heads: blocks of the recurrent weights; a divisor of ``hidden_size``.
        forget: forget gate, ``sigmoid`` or ``exp``.
        forget_bias: initial biases of the forget gate: ``spread`` draws them from :math:`U(3, 6)`, the range of the
            authors' code, ``zero`` leaves them as the others; a number is the bias of all units, whose
            ``sigmoid`` keeps :math:`c` for about :math:`e^{b}` steps.

    Raises:
        ValueError: a size is not positive, or an option is out of its range.
    """

    state_names = ("h", "c", "n", "m")

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        heads: int = 1,
        forget: Literal["sigmoid", "exp"] = "sigmoid",
        forget_bias: float | Literal["spread", "zero"] = "spread",
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_choice("forget", forget, Literal["sigmoid", "exp"])
        if isinstance(forget_bias, str):
            check_choice("forget_bias", forget_bias, Literal["spread", "zero"])
        check_heads(hidden_size, heads)
        self.forget = forget
        size = hidden_size // heads
        self.from_input = nn.Linear(input_size, 4 * hidden_size)
        self.from_state = nn.Parameter(torch.empty(heads, size, 4 * size))
        initialise(self)
        bias = self.from_input.bias.detach().view(4, hidden_size)[1]
        if forget_bias == "spread":
            nn.init.uniform_(bias, 3, 6)
        elif not isinstance(forget_bias, str):
            nn.init.constant_(bias, forget_bias)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to the gates, in the order i, f, z, o: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h, c, n, m)``, each ``[batch, hidden]``."""
        h, c, n, m = state
        i, f, z, o = self._gates(x, h)
        kept = self._kept(f, n, m)
        m = torch.maximum(kept, i)
        write, keep = torch.exp(i - m), torch.exp(kept - m)
        c = keep * c + write * torch.tanh(z)
        n = keep * n + write
        h = torch.sigmoid(o) * c / n
        return h, (h, c, n, m)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        """Return the gates that have a range, and the share of :math:`c` that is kept."""
        h, _, n, m = states
        i, f, z, o = self._gates(x, h[:-1])
        keep = torch.exp(self._kept(f, n[:-1], m[:-1]) - m[1:])
        gates = {
            "input": Gate(torch.exp(i - m[1:])),
            "forget": Gate(keep),
            "candidate": Gate(torch.tanh(z), -1.0, 1.0),
            "output": Gate(torch.sigmoid(o)),
        }
        return Probe(gates, forget={"c": keep})

    def _kept(self, f: Tensor, n: Tensor, m: Tensor) -> Tensor:
        """Return the logarithm of what is kept of a state whose scale is ``exp(m)``; of no state, nothing."""
        return torch.where(n == 0, -torch.inf, (logsigmoid(f) if self.forget == "sigmoid" else f) + m)

    def _gates(self, x: Tensor, h: Tensor) -> list[Tensor]:
        """Return the four preactivations, ``[..., hidden]`` each."""
        heads, size, _ = self.from_state.shape
        blocks = h.reshape(*h.shape[:-1], heads, 1, size) @ self.from_state  # [..., heads, 1, gates and units]
        recurrent = blocks.view(*h.shape[:-1], heads, 4, size).movedim(-2, -3).flatten(-2)
        return list((x.reshape(*x.shape[:-1], 4, self.hidden_size) + recurrent).unbind(-2))
