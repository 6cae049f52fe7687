"""Initialisation of recurrent weights and of gate biases."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from seqlab import Cell, Remedy
from seqlab.errors import check_choice, check_range

Bias: TypeAlias = float | Literal["chrono"]
"""The bias of a gate at initialisation: one number for all units, or one per unit by :func:`initialise_gate`."""
Recurrent: TypeAlias = Literal["torch", "orthogonal", "identity"]

FORGET_BIAS = 2.0
"""Default of each LSTM cell.

Jozefowicz, Zaremba & Sutskever 2015 ("An empirical exploration of recurrent network architectures", section 2) advise 1
or 2. A gate of σ(2) = 0.88 keeps 0.7 % of a gradient over 39 steps, one of σ(1) = 0.73 keeps 0.0005 %: with 1,
``task=first task.sequence_length=40`` stays at the baseline. The biases of GRU, minimal GRU and minimal LSTM are 0 by
default, as in ``torch.nn.GRU`` and their paper: they keep half of the state at each step.
"""


def initialise(cell: Cell) -> None:
    r"""Draw all weights and biases from :math:`U(-1/\sqrt{H}, 1/\sqrt{H})`, as ``torch.nn.LSTM`` does."""
    bound = cell.hidden_size**-0.5
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -bound, bound)


@torch.no_grad()
def initialise_recurrent(weight: Tensor, kind: str) -> None:
    """Set each square block ``[hidden, hidden]`` of the recurrent weights ``[gates * hidden, hidden]``.

    Args:
        weight: changed in place.
        kind: ``orthogonal``: uniform among orthogonal matrices (Saxe, McClelland & Ganguli 2014, arXiv 1312.6120);
            ``identity``; ``torch``: unchanged.

    Raises:
        ValueError: the kind is another one.
    """
    check_choice("initialisation", kind, Recurrent)
    for block in torch.split(weight, weight.shape[1]):
        if kind == "orthogonal":
            nn.init.orthogonal_(block)
        elif kind == "identity":
            nn.init.eye_(block)


class GatedCell(Cell):
    """A cell whose constructor takes the initial bias of the gate that keeps its state, and ``chrono_length``.

    Args:
        input_size: features of one input step.
        hidden_size: features of the state and of the output; positive.
    """

    from_task: ClassVar[Mapping[str, str]] = {"chrono_length": "sequence_length"}
    added_options: ClassVar[Mapping[str, Any]] = MappingProxyType({"chrono_length": None})
    bias_option: ClassVar[str] = "forget_bias"
    """Name of the argument of the bias."""
    bias_default: ClassVar[float] = 0.0
    keeps: ClassVar[Literal[1, -1]] = 1
    """1 if an open gate keeps the state, -1 if it replaces it."""

    @torch.no_grad()
    def initialise_gate(
        self, biases: Sequence[Tensor], bias: float | str, chrono_length: int | None, gate: int, opposite: int = -1
    ) -> None:
        r"""Add a number to the bias of a gate, or set it by the chrono initialisation.

        Chrono (Tallec & Ollivier 2018, arXiv 1804.11188, equation 16), for each unit of an LSTM:

        .. math:: u \sim \mathrm{Uniform}[1, T_\max - 1], \quad b_f = \ln u, \quad b_i = -b_f

        A gate :math:`f = σ(\ln u) = u / (u + 1)` keeps the state for about :math:`1 / (1 - f) = u + 1` steps, 2 to
        :math:`T_\max`. Where the gate replaces the state, :math:`1 - σ(b) = σ(-b)`, the sign is the opposite.

        Args:
            biases: vectors ``[gates * hidden]`` whose sum is the bias of the gates; changed in place.
            bias: a number, or ``chrono``.
            chrono_length: :math:`T_\max`.
            gate: place of the gate among the gates.
            opposite: place of the input gate, if there is one.

        Raises:
            ValueError: ``bias`` is another string, or ``chrono_length`` is missing or less than 2.
        """
        first, *others = (each.view(-1, self.hidden_size) for each in biases)
        if not isinstance(bias, str):
            first[gate] += bias
            return
        if bias != "chrono":
            raise ValueError(f"{self.bias_option} must be a number or chrono, got {bias!r}")
        if chrono_length is None:
            raise ValueError(f"chrono_length must be set with {self.bias_option}=chrono where the task has no length")
        check_range("chrono_length", chrono_length, 2)
        drawn = torch.empty_like(first[gate]).uniform_(1, chrono_length - 1).log() * self.keeps
        for place, value in ((gate, drawn), (opposite, -drawn)):
            if place >= 0:
                first[place] = value
                for other in others:
                    other[place] = 0

    @classmethod
    def remedy(
        cls, cause: Literal["gradient", "saturation"], distance: int, options: Mapping[str, Any]
    ) -> Remedy | None:
        r"""Propose the bias at which a cell starts with a memory of about ``distance`` steps.

        A gate :math:`f = σ(b)` keeps a share :math:`f^T` over :math:`T` steps; with :math:`b = \ln T` that is about
        :math:`(1 - 1/T)^T ≈ 1/e` (Tallec & Ollivier 2018, arXiv 1804.11188, section 2, whose bias is taken as one
        number for all units). Propose nothing where the bias is no smaller already, or ``chrono``.
        """
        now, wanted = options.get(cls.bias_option, cls.bias_default), round(math.log(max(2, distance)), 1)
        if isinstance(now, str) or cls.keeps * now >= wanted:
            return None
        source = f"a {cls.bias_option.replace('_', ' ')} of {'-' if cls.keeps < 0 else ''}ln T"
        return Remedy(
            f"{source}, an initial memory of T steps (Tallec & Ollivier 2018)", {cls.bias_option: cls.keeps * wanted}
        )


class ForgetBiasCell(GatedCell):
    """A cell of the state ``(h, c)`` whose constructor takes ``forget_bias``.

    Args:
        input_size: features of one input step.
        hidden_size: features of each half of the state and of the output; positive.
    """

    state_names = ("h", "c")
    bias_default = FORGET_BIAS
