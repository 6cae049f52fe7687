"""Weights and epilogues of RNN, LSTM and GRU, as their kernels read them, and reasons why a kernel cannot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab import Cell
from seqlab_cells.borrowed import BorrowedLinear

MAPS = ("from_input", "from_state")
_PLAIN = (nn.Linear, BorrowedLinear)


@dataclass(frozen=True)
class Epilogue:
    """What a fused kernel does to the gates between two products, which differs from cell to cell.

    Attributes:
        name: the epilogue in ``fused/scan.cpp`` and in ``gpu/scan.py``.
        gates: products with the input, and as many with the state.
        kept: numbers per unit and step that ``save=gates`` keeps for the gradient.
        states: tensors of the state: 1 (h) or 2 (h and c).
    """

    name: str
    gates: int
    kept: int
    states: int


_EPILOGUES = (
    Epilogue("Gru", 3, 4, 1), Epilogue("Lstm", 4, 5, 2), Epilogue("RnnTanh", 1, 0, 1), Epilogue("RnnRelu", 1, 0, 1),
)  # fmt: skip
EPILOGUES = {epilogue.name: epilogue for epilogue in _EPILOGUES}


class Layer(NamedTuple):
    """The arguments of one fused scan, of one or two directions.

    Attributes:
        x: ``[time, batch, input]``.
        lengths: valid steps of each row, or ``None``.
        states: the tensors of the initial state of each direction, ``[batch, hidden]`` each.
        weights: ``W_ih, W_hh, b_ih, b_hh`` of each direction, in torch's layout.
        epilogue: which cell it is.
        save: what is kept for the gradient: ``none``, ``gates``, or ``recompute``, which keeps c alone.
    """

    x: Tensor
    lengths: Tensor | None
    states: Sequence[Tensor]
    weights: Sequence[Tensor]
    epilogue: Epilogue
    save: str

    @property
    def directions(self) -> int:
        """1, or 2 where a second cell reads backward."""
        return len(self.weights) // 4

    @property
    def hidden(self) -> int:
        """Units of each direction."""
        return self.weights[1].shape[-1]

    @property
    def c_directions(self) -> int:
        """Directions that have a c: all or none."""
        return self.directions if self.epilogue.states == 2 else 0

    def state(self, d: int) -> Sequence[Tensor]:
        """Return the initial state of a direction."""
        return self.states[self.epilogue.states * d : self.epilogue.states * (d + 1)]

    def weight(self, d: int) -> Sequence[Tensor]:
        """Return the four weights of a direction."""
        return self.weights[4 * d : 4 * d + 4]


Results = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of a scan: outputs, final h and final c ``[directions, batch, hidden]``, and what is kept for the gradient. Of its
derivative: the gradients of x, of the initial h and c, and of the weights, ``[directions, W_ih + W_hh + b_ih + b_hh]``.
What a cell does not have, or is not wanted, is empty."""


def weights(cell: Cell) -> list[Tensor]:
    """Return ``W_ih, W_hh, b_ih, b_hh`` of a cell, in torch's order and layout.

    They are read as attributes: of a parametrised map (weight norm, say) this is the weight in use, with its history.
    """
    from_input, from_state = (cast(nn.Linear, getattr(cell, name)) for name in MAPS)
    return [from_input.weight, from_state.weight, from_input.bias, from_state.bias]


def fault(cell: Cell, x: Tensor) -> str | None:
    """Return why a kernel cannot run this cell by :func:`weights` over this input; ``None`` where it can."""
    return modified(cell) or _mismatch(weights(cell), x)


def not_dense(x: Tensor) -> str | None:
    """Return a reason to refuse an input that is sparse or nested."""
    return "the input is not a dense tensor" if x.layout != torch.strided or x.is_nested else None


def replaced(cell: Cell, *names: str) -> str | None:
    """Return which of these methods was replaced on this cell; ``None`` if none was."""
    return next((f"{name} was replaced on this cell" for name in names if name in vars(cell)), None)


def modified(cell: Cell) -> str | None:
    """Return why a cell computes something else than its :func:`weights` say; ``None`` where it does not."""
    return replaced(cell, "project", "step") or next(_modified_maps(cell), None)


def _modified_maps(cell: Cell) -> Iterator[str]:
    for name in MAPS:
        linear = getattr(cell, name)
        kind = type(linear)
        if kind not in _PLAIN and (kind := parametrize.type_before_parametrizations(linear)) not in _PLAIN:
            yield f"{name} is a {kind.__name__}, not a Linear"
        elif linear.bias is None:
            yield f"{name} has no bias"
        elif hooks := _hooks(linear):
            yield f"{name} has {hooks}, which only a call of the module runs"
        elif "forward" in vars(linear):
            yield f"forward was replaced on {name}"


def _hooks(module: nn.Module) -> str | None:
    kinds = {
        "a forward pre-hook": module._forward_pre_hooks,
        "a forward hook": module._forward_hooks,
        "a backward pre-hook": module._backward_pre_hooks,
        "a backward hook": module._backward_hooks,
    }
    return next((kind for kind, hooks in kinds.items() if hooks), None)


def _mismatch(parameters: list[Tensor], x: Tensor) -> str | None:
    for parameter in parameters:
        if parameter.layout != torch.strided:
            return f"a parameter is {parameter.layout}, not dense"
        if parameter.device != x.device:
            return f"the input is on {x.device} and the parameters are on {parameter.device}"
        if not parameter.is_floating_point():
            return f"the parameters are {parameter.dtype}, not of floating point"
        if parameter.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            return f"the input is {x.dtype} and the parameters are {parameter.dtype}"
    return None


def under_vmap() -> bool:
    """Return whether ``torch.func.vmap`` is active; False in a graph that is being compiled."""
    return torch._C._functorch.TransformType.Vmap in _transforms()


def is_single_vmap() -> bool:
    """Return whether one ``torch.func.vmap`` is the only active transform of ``torch.func``."""
    return _transforms() == [torch._C._functorch.TransformType.Vmap]


def _transforms() -> list[torch._C._functorch.TransformType]:
    if torch.compiler.is_compiling():
        return []
    return [level.key() for level in torch._C._functorch.get_interpreter_stack() or ()]
