"""Minimal long short-term memory and its kernel."""

from types import MappingProxyType
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from seqlab_cells.initialisation import Bias, GatedCell, initialise
from seqlab_cells.parallel import Affine, Parallel, positive


@final
class MinLSTM(GatedCell, Affine):
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
        forget_bias: added once, at initialisation, to the forget gate's bias :math:`b_f`. ``chrono``: one bias per
            unit, of memories of 2 to :math:`T_\max` steps, :math:`b_f = \ln u, b_i = -b_f`, so that the share
            :math:`f / (f + i)` of the state is :math:`σ(\ln u)` (Tallec & Ollivier 2018;
            :meth:`.GatedCell.initialise_gate`).
        chrono_length: :math:`T_\max` of ``chrono``, at least 2; null: the task's ``sequence_length``.

    Raises:
        ValueError: a size is not positive, or an option is out of its range.
    """

    added_options = MappingProxyType({**GatedCell.added_options, "forget_bias": 0.0})

    def __init__(
        self, input_size: int, hidden_size: int = 128, forget_bias: Bias = 0.0, chrono_length: int | None = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.from_input = nn.Linear(input_size, 3 * hidden_size)
        initialise(self)
        self.initialise_gate([self.from_input.bias], forget_bias, chrono_length, 0, opposite=1)

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
