"""Minimal gated recurrent unit and its kernel."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab_cells.initialisation import initialise
from seqlab_cells.parallel import Affine, Parallel, positive


@final
class MinGRU(Affine):
    r"""Minimal GRU (Feng et al. 2024, "Were RNNs all we needed?", arXiv 2410.01201, section 3.1 and appendix B).

    .. math::
        z = σ(W_z x + b_z), \quad v = g(W_v x + b_v), \quad h' = (1 - z) ⊙ h + z ⊙ v

    The gate and the candidate read the input alone, so that a step is linear in :math:`h` and a sequence can be scanned
    in parallel. The candidate passes through :math:`g` of the paper's log-space form (:func:`.parallel.positive`).

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 2 * hidden_size)
        initialise(self)

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
