"""Long short-term memory and its kernels."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from seqlab import Cell, Gate, Probe, Routine, State, register_export
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.initialisation import FORGET_BIAS, Bias, ForgetBiasCell, initialise
from seqlab_cells.vendor import Vendor, large
from seqlab_cells.weights import EPILOGUES, Epilogue, modified, weights


@final
class LSTM(ForgetBiasCell):
    r"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000), as ``torch.nn.LSTM``.

    .. math::
        i = σ(W_i x + b_i + U_i h + c_i), \quad f = σ(W_f x + b_f + U_f h + c_f)
        g = \tanh(W_g x + b_g + U_g h + c_g), \quad o = σ(W_o x + b_o + U_o h + c_o)
        c' = f ⊙ c + i ⊙ g, \quad h' = o ⊙ \tanh(c')

    Args:
        input_size: features of one input step.
        hidden_size: features of each half of the state and of the output; positive.
        forget_bias: added once, at initialisation, to the forget gate's input bias :math:`b_f`; from then on it is
            part of that weight. 2, the default, keeps 0.88 of :math:`c` at each initial step (Jozefowicz et al. 2015
            advise 1 or 2); 1 is Keras's default; 0 is torch's initialisation, which keeps half. ``chrono``: one bias
            per unit, of memories of 2 to :math:`T_\max` steps, and the opposite for the input gate (Tallec & Ollivier
            2018; :meth:`.GatedCell.initialise_gate`).
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
        self.from_state = nn.Linear(hidden_size, 4 * hidden_size)
        initialise(self)
        biases = self.from_input.bias, self.from_state.bias
        self.initialise_gate(biases, forget_bias, chrono_length, 1, opposite=0)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to the gates, in the order i, f, g, o: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h, c)``, each ``[batch, hidden]``."""
        h, c = state
        i, f, g, o = (x + self.from_state(h)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        r"""Return the gates, what the forget gate keeps, and the Jacobians of each step.

        Those of the cell state alone have four terms, where :math:`h_{t-1} = o_{t-1} ⊙ \tanh c_{t-1}` feeds the gates:

        .. math::
            \frac{∂c_t}{∂c_{t-1}} = \mathrm{diag}(f) + (\mathrm{diag}(c_{t-1} f (1 - f)) U_f
            + \mathrm{diag}(g i (1 - i)) U_i + \mathrm{diag}(i (1 - g^2)) U_g)\,
            \mathrm{diag}(o_{t-1} (1 - \tanh^2 c_{t-1}))

        The whole one has the way through the output gate, :math:`c_{t-1} → h_{t-1} → o_t → h_t`, besides.
        """
        h, c = states
        raw = x + self.from_state(h[:-1])
        i, f, g, o = raw.chunk(4, dim=-1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        to_gates = torch.cat([g * i * (1 - i), c[:-1] * f * (1 - f), i * (1 - g**2)], dim=-1)
        squashed = torch.tanh(c[1:])
        to_o, to_h = squashed * o * (1 - o), o * (1 - squashed**2)
        U, size = self.from_state.weight, self.hidden_size

        def terms(t: int, to_c: Tensor) -> Tensor:
            through = (to_c.repeat(1, 3) * to_gates[t]) @ U[: 3 * size]
            return to_c * f[t] + through * to_h[t - 1]

        def product(t: int, gradients: State) -> State:
            for_h, for_c = gradients
            to_h_before = torch.cat([for_c.repeat(1, 3) * to_gates[t], for_h * to_o[t]], dim=-1) @ U
            return to_h_before, for_c * f[t] + to_h_before * to_h[t - 1]

        gates = {"input": Gate(i), "forget": Gate(f), "candidate": Gate(g, -1.0, 1.0), "output": Gate(o)}
        return Probe(gates, product, forget={"c": f}, terms={"c": terms})


@final
class LSTMVendor(Vendor):
    """LSTM by ``torch.lstm``: oneDNN for float32 on a CPU, cuDNN on a GPU."""

    cell = LSTM

    def refuses(self, cells: Sequence[Cell], x: Tensor, lengths: Tensor | None) -> str | None:
        """Refuse forward-mode differentiation too, which oneDNN's and cuDNN's layers lack."""
        if forward_ad._current_level >= 0:
            return "torch.lstm has no forward-mode derivative"
        return super().refuses(cells, x, lengths)

    def function(self, cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
        """Return ``torch.lstm``."""
        return torch.lstm

    def padding(self, cell: Cell, like: Tensor) -> Tensor | None:
        """Freeze c on padding by a forget gate of exactly 1 and an input gate of exactly 0.

        ``torch.lstm`` returns c only after the last padded step; frozen, that is the c of the last valid step, and so
        are its gradients.
        """
        column = like.new_zeros(4, cell.hidden_size)
        column[0], column[1] = -large(like), large(like)
        return column.flatten()


def _routine(cell: LSTM) -> Routine | None:
    """Return ONNX's ``LSTM``: gates in the order i, o, f, g."""
    return None if modified(cell) else Routine(torch.ops.aten.lstm.input, "LSTM", weights(cell), (0, 3, 1, 2))


register_export(LSTM, _routine)


@final
class LSTMFused(Fused):
    """Fused scan of an LSTM."""

    cell = LSTM

    def epilogue(self, cell: Cell) -> Epilogue:
        """Return that of an LSTM."""
        return EPILOGUES["Lstm"]
