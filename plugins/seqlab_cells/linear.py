"""What cells share: the way their weights begin; one linear map from the input and one from the state."""

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab import Cell

MAPS = ("from_input", "from_state")


def initialise(cell: Cell) -> None:
    r"""Draw all weights and biases from :math:`U(-1/\sqrt{H}, 1/\sqrt{H})`, as ``torch.nn.LSTM`` does."""
    bound = cell.hidden_size**-0.5
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def weights(cell: Cell) -> list[Tensor]:
    """List ``W_ih, W_hh, b_ih, b_hh``: torch's order, and torch's layout, so that nothing is rearranged.

    They are read as attributes: of a parametrised map (weight norm, say) this gives the weight in use, with its
    history.
    """
    from_input, from_state = (cast(nn.Linear, getattr(cell, name)) for name in MAPS)
    return [from_input.weight, from_state.weight, from_input.bias, from_state.bias]


def modified(cell: Cell) -> str | None:
    """Say why :func:`weights` is not all there is to a cell; ``None`` where it is."""
    for name in ("project", "step"):
        if name in vars(cell):
            return f"{name} was replaced on this cell"
    return next(_faults(cell), None)


def _faults(cell: Cell) -> Iterator[str]:
    for name in MAPS:
        linear = getattr(cell, name)
        if (kind := parametrize.type_before_parametrizations(linear)) is not nn.Linear:
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
