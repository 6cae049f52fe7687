"""Tell whether a sequence of bits has an odd number of ones."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab_tasks.synthetic.generated import integers
from seqlab_tasks.synthetic.labelled import Labelled


@final
class Parity(Labelled):
    r"""Tell whether a sequence of random bits has an odd number of ones.

    .. math:: b_1, …, b_T \sim \mathrm{Uniform}\{0, 1\}, \quad y = \sum_t b_t \bmod 2

    One bit of state suffices, but every position is necessary and any part of the sequence alone tells nothing
    (Bengio, Simard & Frasconi 1994, the parity problem). Chance is 1/2.

    Args:
        sequence_length: bits :math:`T`.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, sequence_length: int = 50, **common: Any) -> None:
        super().__init__(sequence_length, **common)

    @property
    def symbols(self) -> Sequence[str]:
        """The bits."""
        return ("0", "1")

    @property
    def labels(self) -> Sequence[str]:
        """Even and odd."""
        return ("even", "odd")

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, length]``: 1 for the bit 0, 2 for the bit 1."""
        return integers(1, 2, (count, length), generator)

    def answer(self, inputs: Tensor) -> Tensor:
        """Add up modulo 2, ``[count]``."""
        return (inputs - 1).sum(1) % 2

    def necessary(self, inputs: Tensor) -> Tensor:
        """Every position."""
        return torch.ones_like(inputs, dtype=torch.bool)

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Turn these bits."""
        return torch.where(where, 3 - inputs, inputs)
