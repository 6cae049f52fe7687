"""Name the innermost bracket that is still open."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Generator, Tensor

from seqlab_tasks.synthetic.generated import another, integers
from seqlab_tasks.synthetic.labelled import Labelled

BRACKETS = ("()", "[]", "{}", "<>", "«»", "⟨⟩", "⟦⟧", "⌈⌉")


@final
class Dyck(Labelled):
    r"""Name the innermost bracket that is still open, so the only one that may be closed next.

    .. math:: o_1 … o_p \; o \; w, \quad w \in \mathrm{Dyck}\text{-}k, \quad y = \mathrm{kind}(o)

    Some brackets stay open (:math:`p ≤ T/10` of them, drawn anew for each sequence), then the one that is asked for,
    then a balanced word :math:`w` drawn uniformly from all of its length. To tell where :math:`w` begins a model must
    count its nesting, which is about :math:`\sqrt{π T / 2}` deep (Flajolet & Odlyzko 1982), and hold the kind of
    :math:`o` meanwhile. Dyck languages of :math:`k` kinds are the skeleton of all context-free ones (Chomsky &
    Schützenberger 1963); as a test of recurrent networks: Hewitt et al. 2020. Chance is :math:`1/k`.

    Args:
        sequence_length: steps :math:`T` in all; from 10 on, the bracket is at least
            :math:`9T/10 - 1` steps before the end.
        kinds: of brackets, :math:`k`; 2 to 8.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, sequence_length: int = 20, kinds: int = 4, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        if not 2 <= kinds <= len(BRACKETS):
            raise ValueError(f"kinds is {kinds}; it must be from 2 to {len(BRACKETS)}")
        self.kinds = kinds

    @property
    def symbols(self) -> Sequence[str]:
        """Opening brackets, then closing ones."""
        return [pair[side] for side in (0, 1) for pair in BRACKETS[: self.kinds]]

    @property
    def labels(self) -> Sequence[str]:
        """The kinds."""
        return BRACKETS[: self.kinds]

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, length]``: 1 to ``kinds`` open, the next as many close."""
        odd = (length - 1) % 2  # the word's length is even
        most = max(odd, length // 10)
        before = 2 * integers(0, (most - odd) // 2, (count, 1), generator) + odd
        opens = balanced(length - 1 - before, length, generator)
        # The word begins behind the bracket that is asked for; all before it opens.
        place = torch.arange(length) - before - 1
        up = (place < 0) | opens.gather(1, place.clamp(min=0))
        drawn = integers(1, self.kinds, (count, length), generator)
        return torch.where(up, drawn, self.kinds + drawn.gather(1, partner(up)))

    def _up(self, inputs: Tensor) -> Tensor:
        return inputs <= self.kinds

    def _innermost(self, inputs: Tensor) -> Tensor:
        """Find the innermost open bracket, ``[count, 1]``: the last to be opened at the height below the final one."""
        before, height = heights(self._up(inputs))
        place = torch.arange(inputs.shape[1])
        return torch.where(before == height[:, -1:] - 1, place, -1).amax(1, keepdim=True)

    def answer(self, inputs: Tensor) -> Tensor:
        """Name the kind of the innermost open bracket, ``[count]``."""
        return inputs.gather(1, self._innermost(inputs)).squeeze(1) - 1

    def necessary(self, inputs: Tensor) -> Tensor:
        """The innermost open bracket's kind; of the others only the direction counts."""
        return torch.arange(inputs.shape[1]) == self._innermost(inputs)

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put a bracket of another kind and the same direction there."""
        base = (~self._up(inputs)).long() * self.kinds
        return torch.where(where, another(inputs - base, 1, self.kinds, generator) + base, inputs)


def balanced(lengths: Tensor, steps: int, generator: Generator) -> Tensor:
    r"""Draw balanced words uniformly, by the cycle lemma (Dvoretzky & Motzkin 1947).

    Of the :math:`2n + 1` rotations of any arrangement of :math:`n` rises and :math:`n + 1` falls exactly one keeps its
    height from falling below 0 before the last step; without that step it is a balanced word, and each comes from
    equally many arrangements.

    Args:
        lengths: of the words, even, ``[count, 1]``.
        steps: columns to fill, more than the longest has.
        generator: the source of randomness.

    Returns:
        Whether each step opens, ``[count, steps]``; beyond a word's end anything.
    """
    place = torch.arange(steps)
    rest = (lengths + 1 - place).clamp(min=0)  # of the arrangement, from each step on
    # A step rises with the share of rises in what is left (Knuth, TAOCP 3.4.2, algorithm S). Time goes first: a step
    # of all words at once, in place, for less than sorting costs.
    drawn = (torch.rand(len(lengths), steps, generator=generator, dtype=torch.float64) * rest).t().contiguous()
    rises = torch.empty_like(drawn)
    left = (lengths.squeeze(1) // 2).double()
    for numbers, up in zip(drawn, rises, strict=True):
        left.sub_(torch.lt(numbers, left, out=up))
    rises = rises.t().contiguous().bool()
    height = _steps(rises).cumsum(1, dtype=torch.int32).masked_fill_(place > lengths, steps)
    begin = height.argmin(1, keepdim=True) + 1  # behind the first time that it is lowest
    return rises.gather(1, (begin + place) % (lengths + 1))


def heights(up: Tensor) -> tuple[Tensor, Tensor]:
    """Count the open brackets before each step and after it."""
    step = _steps(up)
    after = step.cumsum(1, dtype=torch.int32)
    return after - step, after


def _steps(up: Tensor) -> Tensor:
    return up.to(torch.int32).mul_(2).sub_(1)


def partner(up: Tensor) -> Tensor:
    """Find the opening bracket of each closing one, ``[count, steps]``; for an opening one itself.

    On one height brackets open and close in turn: sorted by height, each closing one stands behind its partner.
    """
    before, after = heights(up)
    steps = up.shape[1]
    place = torch.arange(steps, dtype=torch.int32 if steps < 2**15 else torch.int64)
    # Height and place in one number: NumPy sorts numbers many times faster than it finds their order.
    bits = steps.bit_length()
    key = (torch.minimum(before, after).to(place.dtype) << bits).add_(place)
    order = torch.from_numpy(np.sort(key.numpy(), axis=1)).bitwise_and_((1 << bits) - 1).long()
    behind = torch.empty_like(order).scatter_(1, order, order.roll(1, 1))
    return torch.where(up, place, behind)
