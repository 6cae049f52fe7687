"""Gated recurrent unit and its kernels."""

from collections.abc import Callable
from types import MappingProxyType
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, Gate, Probe, Routine, State, register_export
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.initialisation import Bias, GatedCell, Recurrent, initialise, initialise_recurrent
from seqlab_cells.vendor import Vendor
from seqlab_cells.weights import EPILOGUES, Epilogue, modified, weights


@final
class GRU(GatedCell):
    r"""Gated recurrent unit, reset after the product (Cho et al. 2014; the variant of cuDNN and ``torch.nn.GRU``).

    .. math::
        r = σ(W_r x + b_r + U_r h + c_r), \quad z = σ(W_z x + b_z + U_z h + c_z)
        n = \tanh(W_n x + b_n + r ⊙ (U_n h + c_n)), \quad h' = (1 - z) ⊙ n + z ⊙ h

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        update_bias: added once, at initialisation, to the update gate's input bias :math:`b_z`; 0 is torch's. An open
            gate keeps :math:`h`: a positive bias makes the memory longer. ``chrono``: one bias per unit, of memories of
            2 to :math:`T_\max` steps (Tallec & Ollivier 2018, whose gate :math:`g` of :math:`h' = g ⊙ n + (1 - g) ⊙ h`
            is :math:`1 - z`, so that :math:`b_z = \ln u` has the opposite sign; :meth:`.GatedCell.initialise_gate`).
        chrono_length: :math:`T_\max` of ``chrono``, at least 2; null: the task's ``sequence_length``.
        initialisation: of :math:`U_r, U_z, U_n`: ``torch``, ``orthogonal`` or ``identity``.

    Raises:
        ValueError: a size is not positive, or an option is out of its range.
    """

    added_options = MappingProxyType({**GatedCell.added_options, "update_bias": 0.0, "initialisation": "torch"})
    bias_option = "update_bias"

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        update_bias: Bias = 0.0,
        chrono_length: int | None = None,
        initialisation: Recurrent = "torch",
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 3 * hidden_size)
        self.from_state = nn.Linear(hidden_size, 3 * hidden_size)
        initialise(self)
        initialise_recurrent(self.from_state.weight, initialisation)
        biases = self.from_input.bias, self.from_state.bias
        self.initialise_gate(biases, update_bias, chrono_length, 1)

    def project(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch gates"]:
        """Map the inputs of all steps to the gates, in the order r, z, n: :math:`W x + b`."""
        gates: Tensor = self.from_input(x)
        return gates

    def step(self, x: Float[Tensor, "batch gates"], state: State) -> tuple[Float[Tensor, "batch hidden"], State]:
        """Advance one time step; ``state`` is ``(h,)``, ``[batch, hidden]``."""
        (h,) = state
        r_x, z_x, n_x = x.chunk(3, dim=-1)
        r_h, z_h, n_h = self.from_state(h).chunk(3, dim=-1)
        reset = torch.sigmoid(r_x + r_h)
        update = torch.sigmoid(z_x + z_h)
        candidate = torch.tanh(n_x + reset * n_h)
        h = (1 - update) * candidate + update * h
        return h, (h,)

    def probe(self, x: Float[Tensor, "time batch gates"], states: State) -> Probe:
        r"""Return the gates, what the update gate keeps, and the Jacobian of each step.

        .. math::
            \frac{∂h'}{∂h} = \mathrm{diag}(z) + \mathrm{diag}((h - n) z (1 - z)) U_z
            + \mathrm{diag}((1 - z)(1 - n^2)) (\mathrm{diag}(r) U_n + \mathrm{diag}((U_n h + c_n) r (1 - r)) U_r)
        """
        h = states[0][:-1]
        r_x, z_x, n_x = x.chunk(3, dim=-1)
        r_h, z_h, n_h = self.from_state(h).chunk(3, dim=-1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        n = torch.tanh(n_x + r * n_h)
        to_n, to_z, to_r = (1 - z) * (1 - n**2), (h - n) * z * (1 - z), n_h * r * (1 - r)
        U = self.from_state.weight

        def product(t: int, gradients: State) -> State:
            (g,) = gradients
            inner = g * to_n[t]
            return (g * z[t] + torch.cat([inner * to_r[t], g * to_z[t], inner * r[t]], dim=-1) @ U,)

        gates = {"reset": Gate(r), "update": Gate(z), "candidate": Gate(n, -1.0, 1.0)}
        return Probe(gates, product, forget={"h": z})


@final
class GRUVendor(Vendor):
    """GRU by ``torch.gru``."""

    cell = GRU

    def function(self, cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
        """Return ``torch.gru``."""
        return torch.gru


def _routine(cell: GRU) -> Routine | None:
    """Return ONNX's ``GRU``: gates in the order z, r, n, reset after the product if told to."""
    if modified(cell):
        return None
    return Routine(torch.ops.aten.gru.input, "GRU", weights(cell), (1, 0, 2), {"linear_before_reset": 1})


register_export(GRU, _routine)


@final
class GRUFused(Fused):
    """Fused scan of a GRU."""

    cell = GRU

    def epilogue(self, cell: Cell) -> Epilogue:
        """Return that of a GRU."""
        return EPILOGUES["Gru"]
