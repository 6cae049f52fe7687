"""Minimal gated recurrent unit whose transitions may be negative, and its kernel."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Gate, Probe, State
from seqlab_cells.initialisation import initialise
from seqlab_cells.parallel import Affine, Parallel


@final
class SignedMinGRU(Affine):
    r"""Minimal GRU (Feng et al. 2024, arXiv 2410.01201) with transitions in :math:`(-1, 1)`.

    .. math::
        z = σ(W_z x + b_z), \quad v = W_v x + b_v, \quad h' = (1 - 2 z) ⊙ h + z ⊙ v

    :math:`1 - z` of ``mingru`` becomes :math:`2 (1 - z) - 1`, as Grazzi et al. 2024 (arXiv 2411.12537) extend the
    eigenvalues of Mamba: a step can flip the sign of the state, and so count modulo 2. The candidate :math:`v` has
    either sign.

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
        """Return :math:`a = 1 - 2 z` and :math:`b = z ⊙ v` of all steps :math:`h' = a ⊙ h + b`."""
        z, v = self.from_input(x).chunk(2, dim=-1)
        update = torch.sigmoid(z)
        return 1 - 2 * update, update * v

    def probe(self, x: Float[Tensor, "time batch both"], states: State) -> Probe:
        """Return the factor on the state, which is the whole Jacobian."""
        keep = x.chunk(2, dim=-1)[0]

        def product(t: int, gradients: State) -> State:
            return (gradients[0] * keep[t],)

        return Probe({"keep": Gate(keep, -1.0, 1.0)}, product, keep.abs().amax(-1), {"h": keep})


@final
class SignedMinGRUParallel(Parallel):
    """SignedMinGRU by a scan in parallel over time."""

    cell = SignedMinGRU
