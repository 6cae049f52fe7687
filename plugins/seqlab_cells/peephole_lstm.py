"""Long short-term memory with peepholes."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Gate, Probe, State
from seqlab_cells.initialisation import FORGET_BIAS, Bias, ForgetBiasCell, initialise


@final
class PeepholeLSTM(ForgetBiasCell):
    r"""LSTM with peepholes (Gers & Schmidhuber 2000, "Recurrent nets that time and count"; Gers et al. 2002).

    .. math::
        i = σ(W_i x + b_i + U_i h + p_i ⊙ c), \quad f = σ(W_f x + b_f + U_f h + p_f ⊙ c)
        g = \tanh(W_g x + b_g + U_g h), \quad c' = f ⊙ c + i ⊙ g
        o = σ(W_o x + b_o + U_o h + p_o ⊙ c'), \quad h' = o ⊙ \tanh(c')

    A closed output gate hides :math:`c` from the other gates of an LSTM; through peepholes they read it all the same,
    and can count and time. Each unit reads its own :math:`c` only.

    Args:
        input_size: features of one input step.
        hidden_size: features of each half of the state and of the output; positive.
        forget_bias: added once, at initialisation, to the forget gate's bias :math:`b_f`; 2 by default, or ``chrono``,
            as in ``LSTM``.
        chrono_length: :math:`T_\max` of ``chrono``, at least 2; null: the task's ``sequence_length``.

    Raises:
        ValueError: a size is not positive, or an option is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        forget_bias: Bias = FORGET_BIAS,
        chrono_length: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 4 * hidden_size)
        self.from_state = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.peepholes = nn.Parameter(torch.empty(3 * hidden_size))
        initialise(self)
        self.initialise_gate([self.from_input.bias], forget_bias, chrono_length, 1, opposite=0)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to the gates, in the order i, f, g, o: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h, c)``, each ``[batch, hidden]``."""
        h, c = state
        i, f, g, o = (x + self.from_state(h)).chunk(4, dim=-1)
        p_i, p_f, p_o = self.peepholes.chunk(3)
        c = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
        h = torch.sigmoid(o + p_o * c) * torch.tanh(c)
        return h, (h, c)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        """Return the gates, and what the forget gate keeps."""
        h, c = states
        i, f, g, o = (x + self.from_state(h[:-1])).chunk(4, dim=-1)
        p_i, p_f, p_o = self.peepholes.chunk(3)
        forget = torch.sigmoid(f + p_f * c[:-1])
        gates = {
            "input": Gate(torch.sigmoid(i + p_i * c[:-1])),
            "forget": Gate(forget),
            "candidate": Gate(torch.tanh(g), -1.0, 1.0),
            "output": Gate(torch.sigmoid(o + p_o * c[1:])),
        }
        return Probe(gates, forget={"c": forget})
