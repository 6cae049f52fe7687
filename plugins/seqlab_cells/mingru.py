"""Minimal gated recurrent unit and its kernel."""

from types import MappingProxyType
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab_cells.initialisation import Bias, GatedCell, initialise
from seqlab_cells.parallel import Affine, Parallel, positive


@final
class MinGRU(GatedCell, Affine):
    r"""Minimal GRU (Feng et al. 2024, "Were RNNs all we needed?", arXiv 2410.01201, section 3.1 and appendix B).

    .. math::
        z = σ(W_z x + b_z), \quad v = g(W_v x + b_v), \quad h' = (1 - z) ⊙ h + z ⊙ v

    The gate and the candidate read the input alone, so that a step is linear in :math:`h` and a sequence can be scanned
    in parallel. The candidate passes through :math:`g` of the paper's log-space form (:func:`.parallel.positive`).

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        update_bias: added once, at initialisation, to the update gate's bias :math:`b_z`. An open gate *replaces*
            :math:`h`: a negative bias makes the memory longer. ``chrono``: one bias per unit, of memories of 2 to
            :math:`T_\max` steps, :math:`b_z = -\ln u` (Tallec & Ollivier 2018; :meth:`.GatedCell.initialise_gate`).
        chrono_length: :math:`T_\max` of ``chrono``, at least 2; null: the task's ``sequence_length``.

    Raises:
        ValueError: a size is not positive, or an option is out of its range.
    """

    added_options = MappingProxyType({**GatedCell.added_options, "update_bias": 0.0})
    bias_option = "update_bias"
    keeps = -1

    def __init__(
        self, input_size: int, hidden_size: int = 128, update_bias: Bias = 0.0, chrono_length: int | None = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 2 * hidden_size)
        initialise(self)
        self.initialise_gate([self.from_input.bias], update_bias, chrono_length, 0)

    def affine(
        self, x: Float[Tensor, "time batch input"]
    ) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "time batch hidden"]]:
        """Return :math:`a = 1 - z` and :math:`b = z ⊙ v` of all steps :math:`h' = a ⊙ h + b`."""
        z, v = self.from_input(x).chunk(2, dim=-1)
        update = torch.sigmoid(z)
        return 1 - update, update * positive(v)


@final
class MinGRUParallel(Parallel):
    """MinGRU by a scan in parallel over time."""

    cell = MinGRU
