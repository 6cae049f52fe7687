"""Look up the value of a key that was read long before."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab_tasks.synthetic.generated import another, at_least, integers
from seqlab_tasks.synthetic.labelled import Labelled

NOISE = 4
"""Number of symbols that mean nothing."""


@final
class Recall(Labelled):
    r"""Look up the value of a key that was read long before (associative retrieval; Ba et al. 2016, section 4.1).

    .. math::
        k_1 v_1 \, k_2 v_2 … k_n v_n \; \underbrace{z_1 … z_T}_{\text{noise}} \; k_q, \quad y = v_q

    Keys are all different, and so are values, so that a model has to hold :math:`n` pairs until it learns at the last
    step which was meant. Ba et al. ask at once, after two marks; here noise of a set length lies between. Chance is one
    in the number of values.

    Args:
        sequence_length: noise :math:`T` between the last pair and the question; the sequence has
            :math:`2n + T + 1` steps.
        pairs: number of pairs :math:`n`.
        choices: number of keys there are, and of values; at least as many as pairs, and 2.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, sequence_length: int = 20, pairs: int = 3, choices: int = 8, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        at_least("pairs", pairs, 1)
        at_least("choices", choices, max(2, pairs))
        self.pairs, self.choices = pairs, choices

    @property
    def symbols(self) -> Sequence[str]:
        """Keys, values, noise."""
        return [*(f"k{key}" for key in range(self.choices)), *self.labels, *(f"z{noise}" for noise in range(NOISE))]

    @property
    def labels(self) -> Sequence[str]:
        """The values."""
        return [f"v{value}" for value in range(self.choices)]

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, 2 pairs + length + 1]``."""
        drawn = torch.rand(2, count, self.choices, generator=generator).argsort(2)[:, :, : self.pairs]
        keys, values = drawn[0] + 1, drawn[1] + 1 + self.choices
        least = 2 * self.choices + 1
        noise = integers(least, least + NOISE - 1, (count, length), generator)
        asked = keys.gather(1, integers(0, self.pairs - 1, (count, 1), generator))
        return torch.cat([torch.stack([keys, values], 2).flatten(1), noise, asked], 1)

    def answer(self, inputs: Tensor) -> Tensor:
        """Look the key up, ``[count]``."""
        values = inputs[:, 1 : 2 * self.pairs : 2] - 1 - self.choices
        return (values * self._asked(inputs)).sum(1)

    def _asked(self, inputs: Tensor) -> Tensor:
        """Say which pair was asked for, ``[count, pairs]``."""
        return inputs[:, : 2 * self.pairs : 2] == inputs[:, -1:]

    def necessary(self, inputs: Tensor) -> Tensor:
        """The pair that is asked for, and the question."""
        there = torch.zeros_like(inputs, dtype=torch.bool)
        there[:, : 2 * self.pairs] = self._asked(inputs).repeat_interleave(2, 1)
        there[:, -1] = True
        return there

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put other values and other noise there, and ask for the next pair; the keys of pairs stay."""
        values = (inputs > self.choices) & (inputs <= 2 * self.choices)
        least = 2 * self.choices + 1
        new = torch.where(values, another(inputs, self.choices + 1, 2 * self.choices, generator), inputs)
        new = torch.where(inputs >= least, another(inputs, least, least + NOISE - 1, generator), new)
        keys = inputs[:, : 2 * self.pairs : 2]
        new[:, -1] = keys[self._asked(inputs).roll(1, 1)]
        return torch.where(where, new, inputs)
