"""Cells of the package torchrecurrent."""

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqlab import Cell, State, UserError

_NAMES = {
    "SingleStateCellBase": ("h",),
    "DoubleStateCellBase": ("h", "c"),
    "DecoupledSingleStateCellBase": ("state",),
    "DecoupledDoubleStateCellBase": ("first", "second"),
}
"""Names of the state tensors, by the base class in ``torchrecurrent.base``."""
_DELAYED = "delayed_state"
_SUPPLIED = ("self", "input_size", "hidden_size", "device", "dtype")


@final
class TorchRecurrent(Cell):
    r"""A cell of torchrecurrent (Martinuzzi, MIT licence, https://github.com/MartinuzziFrancesco/torchrecurrent).

    .. math:: y_t, s_t = \mathrm{forward}(x_t, s_{t-1}), \quad s_0 = 0

    with :math:`y_t` the first tensor of the state, or an output of its own for cells that have one. A cell that reads a
    delayed state, as ``tauGRUCell`` does, reads that of one step before, the default of its package.

    Args:
        input_size: features of one input step.
        hidden_size: features of the output.
        type: class of the cell, as in ``from torchrecurrent import LEMCell``.
        options: further arguments of its constructor, such as ``{dt: 0.5}``.

    Raises:
        UserError: torchrecurrent is not installed.
        ValueError: it has no such cell, or the cell refuses a size or an option.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 128,
        type: str = "LEMCell",
        options: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.cell = _made(type, options, input_size, hidden_size)
        base = next(each.__name__ for each in self.cell.__class__.__mro__ if each.__name__ in _NAMES)
        self.decoupled = base.startswith("Decoupled")
        self.delayed = _DELAYED in inspect.signature(self.cell.forward).parameters
        self.state_names = (*_NAMES[base], *(["delayed"] if self.delayed else []))  # type: ignore[misc]  # of the object
        try:
            with torch.no_grad():
                _, state = self._split(self.cell(next(self.cell.parameters()).new_zeros(1, input_size)))
        except (TypeError, RuntimeError) as error:  # the constructor keeps a value of any type
            raise ValueError(f"options: {type} cannot compute a step with {dict(options)}: {error}") from error
        self.widths = [tensor.shape[1] for tensor in state] + [hidden_size] * self.delayed

    def initial_state(self, like: Float[Tensor, "batch *features"]) -> State:
        """Return zeros of the width of each tensor of the state."""
        return tuple(like.new_zeros(like.shape[0], width) for width in self.widths)

    def step(self, x: Float[Tensor, "batch input"], state: State) -> tuple[Float[Tensor, "batch output"], State]:
        """Call the cell."""
        if self.delayed:
            y, (h,) = self._split(self.cell(x, *state))
            return y, (h, state[0])
        return self._split(self.cell(x, state[0] if len(state) == 1 else state))

    def _split(self, found: Any) -> tuple[Tensor, State]:
        """Return the output and the state."""
        y, state = found if self.decoupled else (found, found)
        state = (state,) if isinstance(state, Tensor) else tuple(state)
        return y if self.decoupled else state[0], state


def _made(name: str, options: Mapping[str, Any], input_size: int, hidden_size: int) -> nn.Module:
    try:
        package = import_module("torchrecurrent")
    except ModuleNotFoundError as error:
        if error.name != "torchrecurrent":
            raise
        line = "cell=torchrecurrent needs torchrecurrent, which is not installed"
        raise UserError(f"{line}: pip install 'seqlab[torchrecurrent]'") from None
    known = sorted(each for each in package.__all__ if each.endswith("Cell"))
    if name not in known:
        near = ", ".join(get_close_matches(name, known, cutoff=0.4) or known)
        raise ValueError(f"type must be a cell of torchrecurrent, such as {near}, got {name}")
    kind = getattr(package, name)
    keys = [key for key in inspect.signature(kind.__init__).parameters if key not in _SUPPLIED]
    if unknown := [key for key in options if key not in keys]:
        raise ValueError(f"options: {name} has no argument {unknown[0]}; it has {', '.join(keys)}")
    try:
        made: nn.Module = kind(input_size, hidden_size, **options)
    except TypeError as error:
        raise ValueError(f"options: {name}: {error}") from error
    return made
