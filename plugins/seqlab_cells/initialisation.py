"""Initialisation of weights and of the forget-gate bias."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from seqlab import Cell, Remedy
from seqlab.errors import check_range

FORGET_BIAS = 2.0
"""Default of each LSTM cell.

Jozefowicz, Zaremba & Sutskever 2015 ("An empirical exploration of recurrent network architectures", section 2) advise 1
or 2. A gate of σ(2) = 0.88 keeps 0.7 % of a gradient over 39 steps, one of σ(1) = 0.73 keeps 0.0005 %: with 1,
``task=first task.sequence_length=40`` stays at the baseline. GRU, minimal GRU and minimal LSTM have no such option:
they start as ``torch.nn.GRU`` and their paper do, and keep half of the state at each step.
"""


def initialise(cell: Cell) -> None:
    r"""Draw all weights and biases from :math:`U(-1/\sqrt{H}, 1/\sqrt{H})`, as ``torch.nn.LSTM`` does."""
    bound = cell.hidden_size**-0.5
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def check_heads(hidden_size: int, heads: int) -> None:
    """Check that a number of heads is positive and divides the units.

    Raises:
        ValueError: it does not.
    """
    check_range("heads", heads, 1)
    if hidden_size % heads:
        raise ValueError(f"heads must divide hidden_size={hidden_size}, got {heads}")


class ForgetBiasCell(Cell):
    """A cell of the state ``(h, c)`` whose constructor takes ``forget_bias``.

    Args:
        input_size: features of one input step.
        hidden_size: features of each half of the state and of the output; positive.
    """

    state_names = ("h", "c")

    @classmethod
    def remedy(
        cls, cause: Literal["gradient", "saturation"], distance: int, options: Mapping[str, Any]
    ) -> Remedy | None:
        r"""Propose the forget bias at which a cell starts with a memory of about ``distance`` steps.

        A gate :math:`f = σ(b)` keeps a share :math:`f^T` over :math:`T` steps; with :math:`b = \ln T` that is about
        :math:`(1 - 1/T)^T ≈ 1/e` (Tallec & Ollivier 2018, arXiv 1804.11188, section 2, whose bias is taken as one
        number for all units). Propose nothing where ``forget_bias`` is no smaller already.
        """
        bias = round(math.log(max(2, distance)), 1)
        if options.get("forget_bias", FORGET_BIAS) >= bias:
            return None
        source = "a forget bias of ln T, an initial memory of T steps (Tallec & Ollivier 2018)"
        return Remedy(source, {"forget_bias": bias})
