"""Tasks that write after they have read: reversed, duplicated and reordered strings, and the content of a stack."""

from abc import ABC, abstractmethod
from functools import cache
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from seqlab import Batch
from seqlab.errors import check_range
from seqlab_tasks.synthetic.generated import MAX_SIZE, SOLVED, Bounds, another, integers, token_dtype
from seqlab_tasks.synthetic.stepwise import MASKED, StepLabelled, row_lengths

EMPTY = "_"
"""Symbol of the steps in which a model writes."""


class Rewriting(StepLabelled, ABC):
    """A string of random symbols, then as many empty steps as there are symbols to write.

    The symbols are uniform, so that the baseline is one in their number.

    Args:
        sequence_length: symbols of the string.
        choices: number of different symbols; at least 2.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    copies: ClassVar[int] = 1
    """Written symbols for each symbol of the string."""

    def __init__(self, sequence_length: int = 40, choices: int = 2, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("choices", choices, 2, MAX_SIZE)
        self.choices = choices
        self.labels = [str(symbol) for symbol in range(choices)]
        self.symbols = [*self.labels, EMPTY]

    @abstractmethod
    def rewritten(self, string: Tensor) -> Tensor:
        """Return what is to be written for strings ``[count, length]``: ``[count, copies * length]``."""

    def labelled(self, steps: int) -> int:
        """Return the number of empty steps."""
        return steps - self._read(steps)

    def _read(self, steps: int) -> int:
        return steps // (1 + self.copies)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, (1 + copies) * length]``."""
        dtype = token_dtype(self.choices + 1)
        string = integers(1, self.choices, (count, length), generator, dtype)
        return torch.cat([string, torch.full((count, self.copies * length), self.choices + 1, dtype=dtype)], 1)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the symbols to write at the empty steps, ``[count, steps]``."""
        length = self._read(inputs.shape[1])
        targets = torch.full(inputs.shape, MASKED)
        targets[:, length:] = self.rewritten(inputs[:, :length].long() - 1)
        return targets

    def relevant(self, inputs: Tensor) -> Tensor:
        """The string."""
        return (torch.arange(inputs.shape[1]) < self._read(inputs.shape[1])).expand(inputs.shape)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace symbols and empty steps by other symbols."""
        new = another(inputs.clamp(max=self.choices), 1, self.choices, generator)
        return torch.where(where, new.to(inputs.dtype), inputs)


@final
class ReverseString(Rewriting):
    r"""Write a string in reverse.

    .. math:: \text{input: } s_1 … s_n \; \_^n, \quad \text{target: } \text{none}^n \; s_n … s_1

    A deterministic context-free task of Deletang et al. 2022 (arXiv 2207.02098), there with binary strings. As there,
    a special symbol is read while the answer is written; only these steps are trained and scored.

    Args:
        sequence_length: symbols :math:`n` of the string.
        choices: number of different symbols; at least 2.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def rewritten(self, string: Tensor) -> Tensor:
        """Return the string in reverse."""
        return string.flip(1)


@final
class DuplicateString(Rewriting):
    r"""Write a string twice.

    .. math:: \text{input: } s_1 … s_n \; \_^{2n}, \quad \text{target: } \text{none}^n \; s_1 … s_n \, s_1 … s_n

    A context-sensitive task of Deletang et al. 2022 (arXiv 2207.02098), there with binary strings; steps as in
    :class:`ReverseString`.

    Args:
        sequence_length: symbols :math:`n` of the string.
        choices: number of different symbols; at least 2.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    copies = 2

    def rewritten(self, string: Tensor) -> Tensor:
        """Return the string twice."""
        return string.repeat(1, 2)


@final
class OddsFirst(Rewriting):
    r"""Write the symbols at odd positions of a string, then those at even ones.

    .. math:: \text{input: } s_1 … s_n \; \_^n, \quad \text{target: } \text{none}^n \; s_1 s_3 s_5 … s_2 s_4 s_6 …

    A context-sensitive task of Deletang et al. 2022 (arXiv 2207.02098), there with binary strings; steps as in
    :class:`ReverseString`. This is the order that their code describes; the code itself begins with :math:`s_2`.

    Args:
        sequence_length: symbols :math:`n` of the string.
        choices: number of different symbols; at least 2.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def rewritten(self, string: Tensor) -> Tensor:
        """Return the odd positions, then the even ones, counted from 1."""
        return torch.cat([string[:, ::2], string[:, 1::2]], 1)


_POP, _PUSH = 3, (4, 5)
_EMPTY = 6
_END = 2


@final
class StackManipulation(StepLabelled):
    r"""Write the content of a stack after instructions, from the top.

    .. code-block:: text

        0 1 1 0 +1 - - _ _ _ _ _ _ _ _      →  1 1 0 .

    A deterministic context-free task of Deletang et al. 2022 (arXiv 2207.02098). The first 1 to :math:`n - 1` symbols
    (a uniform number) are the initial stack, bottom first, of uniform bits; the others are uniform instructions: pop
    (``-``, without effect on an empty stack), push 0 (``+0``), push 1 (``+1``). The end ``.`` follows the last bit.
    Steps as in :class:`ReverseString`; there, unlike here, the loss also counts zeros after the end, which are not
    scored.

    The bits on the stack are uniform, and its final height :math:`H` has a distribution that dynamic programming gives,
    :math:`O(n^2)`. The baseline predicts at the :math:`j`-th of the written steps the end, or a bit:

    .. math:: \frac{\sum_{j ≥ 0} \max(P(H = j), P(H > j) / 2)}{1 + E[H]}

    Args:
        sequence_length: bits and instructions :math:`n`; the sequence has :math:`2n + 1` steps.
        **common: those of :class:`Generated`.
    """

    symbols = ("0", "1", "-", "+0", "+1", EMPTY)
    labels = ("0", "1", ".")

    def __init__(self, sequence_length: int = 20, **common: Any) -> None:
        super().__init__(sequence_length, **common)

    @property
    def bounds(self) -> Bounds:
        """The exact baseline (a ratio of expectations), and 1 as the optimum."""
        at = stack_heights(self.sequence_length)
        above = 1 - at.cumsum()
        chance = float(np.maximum(at, above / 2).sum() / (at + above).sum())
        return Bounds(chance, 1.0, "the labels are a function of the sequence", SOLVED)

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return the log-probability of each label at each step after the instructions."""
        outputs = super().baseline_outputs(batch)
        lengths, row = torch.unique(row_lengths(batch), return_inverse=True)
        for index, steps in enumerate(lengths.tolist()):
            at = torch.from_numpy(stack_heights(steps // 2))
            bit = (1 - at.cumsum(0)) / 2
            scores = torch.stack([bit, bit, at], 1).clamp(min=1e-12).log().float()
            outputs[(row == index).to(outputs.device), steps // 2 : steps] = scores.to(outputs.device)
        return outputs

    def labelled(self, steps: int) -> int:
        """Return the number of empty steps."""
        return steps - steps // 2

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, 2 length + 1]``."""
        inputs = torch.full((count, 2 * length + 1), _EMPTY, dtype=torch.uint8)
        bits = integers(1, 2, (count, length), generator, torch.uint8)
        instructions = integers(_POP, _PUSH[1], (count, length), generator, torch.uint8)
        size = integers(1, max(1, length - 1), (count, 1), generator)
        inputs[:, :length] = torch.where(torch.arange(length) < size, bits, instructions)
        return inputs

    def _remaining(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return which symbols are on the final stack, and the height after each symbol; both ``[count, n]``.

        A walk that stays at 0 is the free walk minus its minimum so far (Lindley's equation). A bit remains if the
        height never falls below the one that it was pushed to.
        """
        read = inputs[:, : inputs.shape[1] // 2]
        walk = torch.where(read == _POP, -1, 1).cumsum(1)
        height = walk - walk.cummin(1).values.clamp(max=0)
        later = height.flip(1).cummin(1).values.flip(1)
        return (read != _POP) & (height == later) & (height > 0), height

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the bits from the top, then the end, at the empty steps, ``[count, steps]``."""
        remains, height = self._remaining(inputs)
        count, length = height.shape
        targets = torch.full(inputs.shape, MASKED)
        row, place = remains.nonzero(as_tuple=True)
        bits = inputs[row, place].long()
        bits = torch.where(bits >= _PUSH[0], bits - _PUSH[0], bits - 1)
        targets[row, length + height[row, -1] - height[row, place]] = bits
        targets[torch.arange(count), length + height[:, -1]] = _END
        return targets

    def relevant(self, inputs: Tensor) -> Tensor:
        """The bits that remain; of all other symbols only the kind matters."""
        mask = torch.zeros_like(inputs, dtype=torch.bool)
        remains, _ = self._remaining(inputs)
        mask[:, : remains.shape[1]] = remains
        return mask

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Flip bits and pushed bits, and replace empty steps; pops stay."""
        flipped = torch.where(inputs < _POP, 3 - inputs, sum(_PUSH) - inputs)
        flipped = torch.where(inputs == _EMPTY, integers(1, 5, tuple(inputs.shape), generator, inputs.dtype), flipped)
        return torch.where(where & (inputs != _POP), flipped, inputs)


@cache
def stack_heights(length: int) -> NDArray[np.float64]:
    """Return the distribution of the final height of :class:`StackManipulation`, ``[length + 1]``."""
    found = np.zeros(length + 1)
    if length == 1:
        found[1] = 1.0
        return found
    for size in range(1, length):
        found[size] += 1 / (length - 1)  # of the sequences, those with an initial stack of this size begin here
        moved = np.zeros_like(found)
        moved[1:] = 2 / 3 * found[:-1]
        moved[:-1] += found[1:] / 3
        moved[0] += found[0] / 3
        found = moved
    return found
