"""Minimal long short-term memory and its kernel."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from seqlab_cells.initialisation import initialise
from seqlab_cells.parallel import Affine, Parallel, positive


@final
class MinLSTM(Affine):
    r"""Minimal LSTM (Feng et al. 2024, "Were RNNs all we needed?", arXiv 2410.01201, section 3.2 and appendix B).

    .. math::
        f = σ(W_f x + b_f), \quad i = σ(W_i x + b_i), \quad v = g(W_v x + b_v)
        h' = \frac{f}{f + i} ⊙ h + \frac{i}{f + i} ⊙ v

    The gates and the candidate read the input alone, so that a step is linear in :math:`h` and a sequence can be
    scanned in parallel. The candidate passes through :math:`g` of the paper's log-space form
    (:func:`.parallel.positive`).

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 3 * hidden_size)
        initialise(self)

    def affine(
        self, x: Float[Tensor, "time batch input"]
    ) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "time batch hidden"]]:
        """Return :math:`a`, the share of the state, and :math:`b` of all steps :math:`h' = a ⊙ h + b`.

        The shares come from the difference of the gates' logarithms, which is still one where both gates round to 0.
        """
        f, i, v = self.from_input(x).chunk(3, dim=-1)
        more = logsigmoid(f) - logsigmoid(i)
        return torch.sigmoid(more), torch.sigmoid(-more) * positive(v)


@final
class MinLSTMParallel(Parallel):
    """MinLSTM by a scan in parallel over time."""

    cell = MinLSTM
