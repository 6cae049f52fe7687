"""Long short-term memory with layer normalisation."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Gate, Probe, State
from seqlab_cells.initialisation import FORGET_BIAS, Bias, ForgetBiasCell, initialise


@final
class LayerNormLSTM(ForgetBiasCell):
    r"""LSTM with layer normalisation (Ba, Kiros & Hinton 2016, section 3.1 and the supplement's equations for LSTM).

    .. math::
        (i, f, g, o) = \mathrm{LN}(W x; α_x) + \mathrm{LN}(U h; α_h) + b
        c' = σ(f) ⊙ c + σ(i) ⊙ \tanh(g), \quad h' = σ(o) ⊙ \tanh(\mathrm{LN}(c'; α_c, β_c))

    .. math::
        \mathrm{LN}(v; α, β) = α ⊙ \frac{v - \mathrm{mean}(v)}{\sqrt{\mathrm{var}(v) + 10^{-5}}} + β

    Mean and variance of the first two run over all four gates at once; their shifts :math:`β` are part of :math:`b`.
    Gains start at 1 and all other biases at 0, as in the paper.

    Args:
        input_size: features of one input step.
        hidden_size: features of each half of the state and of the output; at least 2, for one number has no variance.
        forget_bias: the forget gate's bias :math:`b_f` at initialisation; 2 by default, or ``chrono``, as in ``LSTM``;
            0 in the paper.
        chrono_length: :math:`T_\max` of ``chrono``, at least 2; null: the task's ``sequence_length``.

    Raises:
        ValueError: ``input_size`` is not positive, ``hidden_size`` is less than 2, or an option is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        forget_bias: Bias = FORGET_BIAS,
        chrono_length: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if hidden_size < 2:
            raise ValueError(f"hidden_size must be >= 2 under layer normalisation, got {hidden_size}")
        self.from_input = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.from_state = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        initialise(self)
        self.norm_input = nn.LayerNorm(4 * hidden_size)  # its bias is b
        self.norm_state = nn.LayerNorm(4 * hidden_size, bias=False)
        self.norm_cell = nn.LayerNorm(hidden_size)
        self.initialise_gate([self.norm_input.bias], forget_bias, chrono_length, 1, opposite=0)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to the gates, in the order i, f, g, o: :math:`LN(W x) + b`."""
        gates: Tensor = self.norm_input(self.from_input(x))
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h, c)``, each ``[batch, hidden]``."""
        h, c = state
        i, f, g, o = (x + self.norm_state(self.from_state(h))).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.norm_cell(c))
        return h, (h, c)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        """Return the gates, and what the forget gate keeps."""
        i, f, g, o = (x + self.norm_state(self.from_state(states[0][:-1]))).chunk(4, dim=-1)
        forget = torch.sigmoid(f)
        gates = {
            "input": Gate(torch.sigmoid(i)),
            "forget": Gate(forget),
            "candidate": Gate(torch.tanh(g), -1.0, 1.0),
            "output": Gate(torch.sigmoid(o)),
        }
        return Probe(gates, forget={"c": forget})
