"""Forget-gate bias initialisation.

LSTM cells with a ``forget_bias`` begin with 2, of the "1 or 2" that Jozefowicz, Zaremba & Sutskever 2015 ("An empirical
exploration of recurrent network architectures", section 2) advise: a gate of 0.88 keeps 0.7 % of a gradient over 39
steps, one of 0.73 (a bias of 1) 0.0005 %. GRU, minimal GRU and minimal LSTM have no such option: they begin as
``torch.nn.GRU`` and their paper do, keeping half of the state at each step.
"""

import math
from collections.abc import Mapping
from typing import Any

from seqlab import Remedy

FORGET_BIAS = 2.0
"""The default of each LSTM cell: with 1 ``task=first task.sequence_length=40`` stays at the baseline."""


def longer_memory(distance: int, options: Mapping[str, Any]) -> Remedy | None:
    r"""Propose the forget bias at which a cell begins with a memory of about ``distance`` steps.

    A gate :math:`f = σ(b)` keeps a share :math:`f^T` over :math:`T` steps; with :math:`b = \ln T` that is about
    :math:`(1 - 1/T)^T ≈ 1/e` (Tallec & Ollivier 2018, arXiv 1804.11188, section 2, from which the bias is taken as
    one number for all units).

    Args:
        distance: the steps :math:`T`.
        options: of the cell as it is; nothing is proposed where its ``forget_bias`` is no smaller.
    """
    bias = round(math.log(max(2, distance)), 1)
    if options.get("forget_bias", FORGET_BIAS) >= bias:
        return None
    return Remedy(
        "a forget bias of ln T, a memory of T steps to begin with (Tallec & Ollivier 2018)", {"forget_bias": bias}
    )
