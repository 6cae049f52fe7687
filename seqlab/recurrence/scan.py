"""The reference loop, masks of ragged rows, and operations on states."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from seqlab.contracts import Cell, State
from seqlab.contracts.batch import Lengths
from seqlab.contracts.masks import checked, valid_mask, zero_padding

Tree = TypeVar("Tree")


def rebuild(like: tuple[Any, ...], tensors: Sequence[Any]) -> tuple[Any, ...]:
    """Make a tuple of the type of ``like`` (plain or named) from state tensors."""
    return type(like)(*tensors) if hasattr(like, "_fields") else tuple(tensors)


def map_state(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Apply a function to every tensor of nested tuples; ``None`` stays."""
    if isinstance(tree, Tensor):
        return function(tree)  # type: ignore[return-value]  # Tree is Tensor here
    if isinstance(tree, tuple):
        tensors = [map_state(function, tensor) for tensor in tree]
        return rebuild(tree, tensors)  # type: ignore[return-value]  # Tree is this tuple's type
    return tree


def state_tensors(tree: Any) -> list[Tensor]:
    """List every tensor of nested tuples."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_state(keep, tree)
    return found


def fill_state(tree: Tree, tensors: Sequence[Tensor]) -> Tree:
    """Put the tensors listed by :func:`state_tensors` into nested tuples of the same form."""
    rest = iter(tensors)
    return map_state(lambda _: next(rest), tree)


def detach(tree: Tree) -> Tree:
    """Detach a state from its history, so that no gradient flows further back."""
    return map_state(torch.Tensor.detach, tree)


def select(state: State, rows: Int[Tensor, " chosen"]) -> State:
    """Return some rows of a cell's state."""
    return map_state(lambda tensor: tensor[rows], state)


def merge(valid: Bool[Tensor, " batch"], new: State, old: State) -> State:
    """Return the new state in valid rows and the old one in the others."""
    return rebuild(
        new, [torch.where(valid.view(-1, *(1,) * (n.dim() - 1)), n, o) for n, o in zip(new, old, strict=True)]
    )


def keep_dtypes(new: Any, old: State) -> Any:
    """Cast a new state to the dtypes of the old one: autocast lowers a step's precision, not that of the state."""
    if not isinstance(new, tuple) or len(new) != len(old):
        return new  # same_structure reports it
    return rebuild(new, [n.to(o.dtype) for n, o in zip(new, old, strict=True)])


def same_structure(new: Any, old: State) -> str | None:
    """Return how the structure of the state after a step differs from the one before; ``None`` if it does not."""
    if not isinstance(new, tuple):
        return f"the state is a {type(new).__name__}; it must be a tuple of tensors"
    if len(new) != len(old):
        return f"the state has {len(new)} tensors after the step and {len(old)} before it"
    for index, (n, o) in enumerate(zip(new, old, strict=True)):
        if n.shape != o.shape:
            return f"tensor {index} of the state is {tuple(n.shape)} after the step and {tuple(o.shape)} before it"
        if n.dtype != o.dtype:
            return f"tensor {index} of the state is {n.dtype} after the step and {o.dtype} before it"
    return None


def row_lengths(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the lengths, or those of full rows of ``[time, batch, ...]``."""
    return torch.full((x.shape[1],), x.shape[0], device=x.device) if lengths is None else lengths


def scan(
    cell: Cell, x: Shaped[Tensor, "time batch input"], state: State, lengths: Lengths | None = None
) -> tuple[Shaped[Tensor, "time batch output"], State]:
    r"""Run a cell forward over time.

    .. math:: y_t, s_t = \mathrm{step}(x_t, s_{t-1}) \text{ while } t < \mathrm{length};
        \quad y_t = 0,\ s_t = s_{t-1} \text{ after it}

    Args:
        cell: the step.
        x: the input of every step; padding is ignored.
        state: the state before the first step.
        lengths: valid steps of each row, 0 to ``time``, a sequence of integers; ``None`` where all rows are full.

    Returns:
        The outputs, zero on padding, and the state after each row's last valid step.

    Raises:
        ValueError: the step changes the structure, a shape or a dtype of its state, or ``lengths`` do not fit ``x``.
    """
    if lengths is not None:
        lengths = checked(lengths, x)
        x = zero_padding(x, lengths)
        mask = valid_mask(lengths, x.shape[0])
    lowered = torch.is_autocast_enabled(x.device.type)
    outputs = []
    for t, x_t in enumerate(cell.project(x)):
        y, new = cell.step(x_t, state)
        if lowered:
            new = keep_dtypes(new, state)
        if t == 0 and (fault := same_structure(new, state)):
            raise ValueError(f"{type(cell).__name__}.step: {fault}")
        if lengths is not None:
            new = merge(mask[t], new, state)
            y = y.masked_fill(~mask[t].unsqueeze(1), 0)
        outputs.append(y)
        state = new
    if not outputs:
        return x.new_zeros(0, x.shape[1], cell.output_size), state
    return torch.stack(outputs), state
