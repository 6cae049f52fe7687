"""What stands around a layer, whatever its cells are: locked dropout, layer normalisation, a way past it."""

from typing import final

import torch
from torch import Tensor, nn

from seqlab.contracts import Cell, State
from seqlab.recurrence.state import rebuild

CONNECTIONS = ("none", "residual", "highway")


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop the same features at every step of a sequence (Gal & Ghahramani 2016); ``x`` is ``[time, batch, ...]``."""
    if not training or not rate:
        return x
    return x * nn.functional.dropout(x.new_ones(1, *x.shape[1:]), rate)


@final
class Around(nn.Module):
    r"""Turns a layer's input and output into what the next layer reads, ``[time, batch, size]``.

    .. math:: \text{none: } y \qquad \text{residual: } x + y \qquad
        \text{highway: } g ⊙ y + (1 - g) ⊙ x,\; g = σ(W x + b)

    with :math:`y` normalised over its features first if asked for (Ba et al. 2016), the residual of He et al. 2016
    and the highway of Srivastava et al. 2015 with :math:`b = -1`, so that it begins by carrying the input. A first
    layer whose input differs in size from its output has no way past it.

    Args:
        input_size: features the layer reads.
        output_size: features the layer gives.
        layer_norm: whether to normalise its output.
        connection: the way past it.

    Raises:
        ValueError: there is no such connection.
    """

    def __init__(self, input_size: int, output_size: int, *, layer_norm: bool, connection: str) -> None:
        super().__init__()
        if connection not in CONNECTIONS:
            raise ValueError(f"connection is {connection}; it must be one of {', '.join(CONNECTIONS)}")
        self.norm = nn.LayerNorm(output_size) if layer_norm else nn.Identity()
        self.connection = connection if input_size == output_size else "none"
        if self.connection == "highway":
            self.gate = nn.Linear(input_size, output_size)
            nn.init.constant_(self.gate.bias, -1.0)

    @property
    def is_plain(self) -> bool:
        """Whether the output is passed on as it is."""
        return self.connection == "none" and isinstance(self.norm, nn.Identity)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Combine a layer's input ``x`` and its output ``y``."""
        y = self.norm(y)
        if self.connection == "residual":
            return x + y
        if self.connection == "highway":
            return x + torch.sigmoid(self.gate(x)) * (y - x)  # not lerp, which autocast leaves with two dtypes
        return y


@final
class LearnedStart(nn.Module):
    """A learned initial state, the same for all rows; it starts as the cell's own and leaves integers alone.

    Args:
        cell: whose state it is; of a wrapped cell, the innermost.
    """

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        like = next(cell.parameters()).new_zeros(1, cell.input_size)
        self.leaves = nn.ParameterList(
            nn.Parameter(leaf[0].detach().clone(), requires_grad=leaf.is_floating_point())
            for leaf in cell.initial_state(like)
        )

    def forward(self, start: State) -> State:
        """Put the learned leaves in the place of the cell's own; what a wrapper added after them stays."""
        learned = [
            value.to(leaf.dtype).expand_as(leaf) if leaf.is_floating_point() else leaf
            for value, leaf in zip(self.leaves, start, strict=False)
        ]
        return rebuild(start, [*learned, *start[len(learned) :]])
