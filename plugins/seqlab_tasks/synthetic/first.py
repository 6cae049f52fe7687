"""Recall the first symbol of a sequence."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab_tasks.synthetic.generated import another, at_least, integers
from seqlab_tasks.synthetic.labelled import Labelled, letters


@final
class First(Labelled):
    r"""Recall the first symbol of a sequence of random symbols.

    .. math:: u_1, …, u_T \sim \mathrm{Uniform}\{1, …, k\}, \quad y = u_1

    The label is the one thing to remember, and every step after it is noise: the latching problem of Bengio, Simard &
    Frasconi 1994 ("Learning long-term dependencies with gradient descent is difficult"), with symbols in place of
    noisy numbers. A model that sees exactly the last :math:`n` steps solves it for :math:`T ≤ n` and is at chance,
    :math:`1/k`, beyond.

    Args:
        sequence_length: steps :math:`T`, the first and the last included.
        choices: number of symbols :math:`k`; at least 2.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, sequence_length: int = 20, choices: int = 8, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        at_least("choices", choices, 2)
        self.choices = choices

    @property
    def symbols(self) -> Sequence[str]:
        """Letters."""
        return letters(self.choices)

    @property
    def labels(self) -> Sequence[str]:
        """The same letters."""
        return letters(self.choices)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, length]``."""
        return integers(1, self.choices, (count, length), generator)

    def answer(self, inputs: Tensor) -> Tensor:
        """Take the first symbol, ``[count]``."""
        return inputs[:, 0] - 1

    def necessary(self, inputs: Tensor) -> Tensor:
        """The first position."""
        return (torch.arange(inputs.shape[1]) == 0).expand(inputs.shape)

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put another symbol there."""
        return torch.where(where, another(inputs, 1, self.choices, generator), inputs)
