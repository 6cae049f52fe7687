"""Long short-term memory with coupled input and forget gates."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Gate, Probe, State
from seqlab_cells.initialisation import FORGET_BIAS, Bias, ForgetBiasCell, initialise


@final
class CoupledLSTM(ForgetBiasCell):
    r"""LSTM with coupled input and forget gates: CIFG (Greff et al. 2017, "LSTM: A search space odyssey").

    .. math::
        f = σ(W_f x + b_f + U_f h), \quad g = \tanh(W_g x + b_g + U_g h), \quad o = σ(W_o x + b_o + U_o h)
        c' = f ⊙ c + (1 - f) ⊙ g, \quad h' = o ⊙ \tanh(c')

    :math:`c` stays within :math:`(-1, 1)` and so cannot count. The paper couples the gates of an LSTM with peepholes;
    this one has none.

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
        self.from_input = nn.Linear(input_size, 3 * hidden_size)
        self.from_state = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        initialise(self)
        self.initialise_gate([self.from_input.bias], forget_bias, chrono_length, 0)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to the gates, in the order f, g, o: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h, c)``, each ``[batch, hidden]``."""
        h, c = state
        f, g, o = (x + self.from_state(h)).chunk(3, dim=-1)
        forget = torch.sigmoid(f)
        c = forget * c + (1 - forget) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        """Return the gates, and what the forget gate keeps."""
        f, g, o = (x + self.from_state(states[0][:-1])).chunk(3, dim=-1)
        forget = torch.sigmoid(f)
        gates = {
            "forget": Gate(forget),
            "candidate": Gate(torch.tanh(g), -1.0, 1.0),
            "output": Gate(torch.sigmoid(o)),
        }
        return Probe(gates, forget={"c": forget})
