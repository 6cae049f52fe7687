"""Gated DeltaNet, and its kernel."""

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from seqlab_cells.matrix.delta import DeltaChunked, DeltaRule


@final
class GatedDeltaNet(DeltaRule):
    r"""Gated DeltaNet: DeltaNet that forgets (Yang et al. 2024, arXiv 2412.06464).

    .. math::
        S' = α S (I - β k k^\top) + β v k^\top, \quad y = S' q, \quad α = \exp(-e^A\, \mathrm{softplus}(W_α x + b_α))

    with :math:`q, k, v` and :math:`β` as in ``deltanet``. :math:`α` is that of Mamba-2 and starts as there: :math:`e^A`
    uniform between 1 and 16 (its code), the softplus for :math:`x = 0` log-uniform between 0.001 and 0.1.

    Args:
        input_size: features of one input step.
        hidden_size: features of the output, heads times the size of a value; positive.
        heads: number of matrices; a divisor of ``hidden_size``. Keys are as large as values.
        negative_eigenvalues: whether :math:`β` lies in (0, 2), or in (0, 1).

    Raises:
        ValueError: a size is not positive, or ``heads`` is no divisor of ``hidden_size``.
    """

    def __init__(
        self, input_size: int, hidden_size: int = 128, heads: int = 1, negative_eigenvalues: bool = False
    ) -> None:
        super().__init__(input_size, hidden_size, heads, negative_eigenvalues)
        self.to_decay = nn.Linear(input_size, heads)
        self.log_a = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        with torch.no_grad():
            dt = torch.empty(heads).uniform_(math.log(0.001), math.log(0.1)).exp()
            self.to_decay.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus maps it to dt

    def log_decay(self, x: Float[Tensor, "time batch input"]) -> Float[Tensor, "time batch heads"]:
        r"""Return :math:`\log α` of all steps."""
        return -self.log_a.exp() * softplus(self.to_decay(x))


@final
class GatedDeltaNetChunked(DeltaChunked):
    """GatedDeltaNet in chunks."""

    cell = GatedDeltaNet
