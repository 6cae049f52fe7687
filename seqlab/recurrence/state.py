"""States as values: detach, merge, select."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from seqlab.contracts import State

Tree = TypeVar("Tree")


def rebuild(like: tuple[Any, ...], leaves: Sequence[Any]) -> tuple[Any, ...]:
    """Make a tuple of the same type as ``like`` (a plain or a named one) from leaves."""
    return type(like)(*leaves) if hasattr(like, "_fields") else tuple(leaves)


def map_leaves(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Apply a function to every tensor of a nesting of tuples, whose ``None`` stay."""
    if isinstance(tree, Tensor):
        return function(tree)  # type: ignore[return-value]  # Tree is Tensor here
    if isinstance(tree, tuple):
        leaves = [map_leaves(function, leaf) for leaf in tree]
        return rebuild(tree, leaves)  # type: ignore[return-value]  # Tree is this tuple's type
    return tree


def leaves(tree: Any) -> list[Tensor]:
    """List every tensor of a nesting of tuples."""
    found: list[Tensor] = []

    def keep(leaf: Tensor) -> Tensor:
        found.append(leaf)
        return leaf

    map_leaves(keep, tree)
    return found


def refill(tree: Tree, tensors: Sequence[Tensor]) -> Tree:
    """Put what :func:`leaves` listed into a nesting of the same form."""
    rest = iter(tensors)
    return map_leaves(lambda _: next(rest), tree)


def detach(tree: Tree) -> Tree:
    """Cut a state off its history, so that no gradient flows further back."""
    return map_leaves(torch.Tensor.detach, tree)


def select(state: State, rows: Int[Tensor, " chosen"]) -> State:
    """Take some rows of the batch out of a cell's state."""
    return map_leaves(lambda leaf: leaf[rows], state)


def merge(alive: Bool[Tensor, " batch"], new: State, old: State) -> State:
    """Take the new state in rows that are alive, and keep the old one in those that are not."""
    return rebuild(new, [_where(alive, n, o) for n, o in zip(new, old, strict=True)])


def _where(alive: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(alive.view(-1, *(1,) * (new.dim() - 1)), new, old)


def keep_dtypes(new: Any, old: State) -> Any:
    """Undo autocast on a state: the step may compute in lower precision, but what is carried keeps its own."""
    if not isinstance(new, tuple) or len(new) != len(old):
        return new  # a fault, which same_structure names
    return rebuild(new, [n.to(o.dtype) for n, o in zip(new, old, strict=True)])


def same_structure(new: Any, old: State) -> str | None:
    """Say in what the state after a step differs from the state before it; ``None`` where it does not."""
    if not isinstance(new, tuple):
        return f"the state is a {type(new).__name__}; it must be a tuple of tensors"
    if len(new) != len(old):
        return f"the state has {len(new)} leaves after the step and {len(old)} before it"
    for index, (n, o) in enumerate(zip(new, old, strict=True)):
        if n.shape != o.shape:
            return f"leaf {index} of the state is {tuple(n.shape)} after the step and {tuple(o.shape)} before it"
        if n.dtype != o.dtype:
            return f"leaf {index} of the state is {n.dtype} after the step and {o.dtype} before it"
    return None
