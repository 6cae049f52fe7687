"""DeltaNet, and its kernel."""

from typing import final

from seqlab_cells.matrix.delta import DeltaChunked, DeltaRule


@final
class DeltaNet(DeltaRule):
    r"""DeltaNet: linear attention that overwrites (Schlag et al. 2021, arXiv 2102.11174; Yang et al. 2024, 2406.06484).

    .. math::
        S' = S (I - β k k^\top) + β v k^\top, \quad y = S' q, \quad β = σ(W_β x + b_β)

    where :math:`q` and :math:`k` are :math:`\mathrm{SiLU}(W x + b)` of length 1, and :math:`v = W_v x + b_v`, for each
    head. A step replaces what the matrix holds under the key :math:`k`. Twice the :math:`β` can reflect it, which
    gives the step an eigenvalue in (-1, 1) instead of (0, 1) (Grazzi et al. 2024, arXiv 2411.12537).

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


@final
class DeltaNetChunked(DeltaChunked):
    """DeltaNet in chunks."""

    cell = DeltaNet
