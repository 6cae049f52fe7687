"""Real-gated linear recurrent unit, and its kernel."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from seqlab.errors import check_range
from seqlab_cells.initialisation import initialise
from seqlab_cells.parallel import Affine, Parallel


@final
class RGLRU(Affine):
    r"""Real-gated linear recurrent unit (De et al. 2024, "Griffin", arXiv 2402.19427).

    .. math::
        r = σ(W_r x + b_r), \quad i = σ(W_i x + b_i), \quad a = σ(Λ)^{c r}, \quad c = 8
        h' = a ⊙ h + \sqrt{1 - a^2} ⊙ i ⊙ (W_v x + b_v)

    :math:`W_v` stands for the linear layer before the unit in the paper's block.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
        a_min: smallest initial :math:`σ(Λ)^c`, which is drawn uniformly; greater than 0.
        a_max: largest one; less than 1.

    Raises:
        ValueError: a size or an option is out of its range.
    """

    SHARPNESS = 8.0
    """:math:`c`."""

    def __init__(self, input_size: int, hidden_size: int = 128, a_min: float = 0.9, a_max: float = 0.999) -> None:
        super().__init__(input_size, hidden_size)
        check_range("a_max", a_max, above=0, below=1)
        check_range("a_min", a_min, above=0, at_most=a_max)
        self.from_input = nn.Linear(input_size, 3 * hidden_size)
        initialise(self)
        base = torch.empty(hidden_size).uniform_(a_min, a_max).pow(1 / self.SHARPNESS)
        self.decay = nn.Parameter(base.logit())

    def affine(
        self, x: Float[Tensor, "time batch input"]
    ) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "time batch hidden"]]:
        """Return :math:`a` and :math:`b` of all steps :math:`h' = a ⊙ h + b`."""
        r, i, v = self.from_input(x).chunk(3, dim=-1)
        log_a = -self.SHARPNESS * torch.sigmoid(r) * softplus(-self.decay)
        rest = -torch.expm1(2 * log_a)  # 1 - a ** 2, above 0 so that the root has a slope
        rest = rest.clamp_min(torch.finfo(rest.dtype).tiny)
        return torch.exp(log_a), rest.sqrt() * torch.sigmoid(i) * v


@final
class RGLRUParallel(Parallel):
    """RGLRU by a scan in parallel over time."""

    cell = RGLRU
