"""Registry of cells that compute a step of ``torch.nn.RNN``, ``LSTM`` and ``GRU``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from seqlab.contracts import Cell, Kernel
from seqlab.plugins.registry import find


@final
@dataclass(frozen=True)
class TorchCell:
    """A cell that computes a step of a module of ``torch.nn``, registered under the name of that module.

    Attributes:
        borrow: makes the cell of one layer and direction, which has no parameters: it reads those of the module at each
            call. Takes the module, the suffix of their names, such as ``_l0_reverse``, and the input size.
        routine: the kernel that calls torch's own routine: where it is chosen, the module may be called instead.
        convert: makes the :class:`seqlab.Recurrent` that computes the module, with copies of the weights.
    """

    borrow: Callable[[nn.RNNBase, str, int], Cell]
    routine: type[Kernel]
    convert: Callable[[nn.Module], Any]


def torch_cell(kind: type[nn.RNNBase]) -> TorchCell:
    """Return the cell of ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``."""
    found: TorchCell = find("torch", kind.__name__).load()
    return found
