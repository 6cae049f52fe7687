"""Modular arithmetic: the value of an expression, with and without brackets."""

from functools import cache
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from seqlab import Batch
from seqlab.errors import check_range
from seqlab_tasks.synthetic.generated import SOLVED, Bounds, Labelled, another, integers, token_dtype
from seqlab_tasks.synthetic.stepwise import outputs_by_length

MAX_MODULUS = 64
"""Largest modulus: the baseline needs the powers of a matrix for each residue."""
_SMALLEST_PAIR = 5
"""Steps of the shortest expression with two operands in brackets."""


@final
class ModularArithmetic(Labelled):
    r"""Return the value of an arithmetic expression modulo :math:`m`.

    .. code-block:: text

        1 + 2 * 3 - 4                →  3  (mod 5)
        ( ( 3 * - 2 ) + ( 4 ) )      →  3  (mod 5), with brackets

    Tasks of Deletang et al. 2022 (arXiv 2207.02098). Without brackets, :math:`⌊T/2⌋ + 1` uniform digits and the uniform
    operators +, - and * take turns, and products come first: a regular language. There an even :math:`T` is rounded
    down, here up. With brackets, the expression has exactly :math:`T` symbols and is deterministic context-free: from 5
    symbols on, ``( left operator right )`` with uniform operator and lengths; below, ``d``, ``- d``, ``( d )`` or
    ``( - d )``. Neither the values of products nor, therefore, those of expressions are uniform (0 is the likeliest
    product): the baseline is the share of the likeliest value among expressions of :math:`T` symbols, exact by dynamic
    programming; it tends to :math:`1/m` without brackets.

    Args:
        sequence_length: symbols :math:`T` of the expression.
        modulus: :math:`m`, also the number of digits; 2 to 64.
        brackets: whether all pairs of operands are in brackets.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, sequence_length: int = 40, modulus: int = 5, brackets: bool = False, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("modulus", modulus, 2, MAX_MODULUS)
        if not isinstance(brackets, bool):
            raise ValueError(f"brackets must be true or false, got {brackets!r}")
        self.modulus, self.brackets = modulus, brackets
        self.labels = [str(digit) for digit in range(modulus)]
        self.symbols = [*self.labels, "+", "-", "*", *("()" if brackets else "")]
        self._plus, self._minus, self._times, self._open, self._close = range(modulus + 1, modulus + 6)

    def shares(self, length: int) -> tuple[float, ...]:
        """Return the probability of each value of expressions of so many symbols."""
        if self.brackets:
            return shares_with_brackets(self.modulus, length)
        return shares_without_brackets(self.modulus, length // 2)

    @property
    def bounds(self) -> Bounds:
        """The share of the likeliest value, and 1 as the optimum."""
        chance = max(self.shares(self.sequence_length))
        return Bounds(chance, 1.0, "the label is a function of the sequence", SOLVED)

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return the log-probability of each value of expressions as long as each row."""
        return outputs_by_length(batch, self.shares)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, steps]``: ``modulus`` digits, the operators +, - and *, the brackets."""
        dtype = token_dtype(self._close)
        steps = length if self.brackets else length // 2 * 2 + 1
        inputs = integers(1, self.modulus, (count, steps), generator, dtype)
        if self.brackets:
            self._insert_brackets(inputs, generator)
        else:
            inputs[:, 1::2] = integers(self._plus, self._times, (count, steps // 2), generator, dtype)
        return inputs

    def _insert_brackets(self, inputs: Tensor, generator: Generator) -> None:
        """Overwrite digits by operators and brackets: all parts of one depth at once, from the whole to the digits."""
        count, steps = inputs.shape
        row, start, size = torch.arange(count), torch.zeros(count, dtype=torch.int64), torch.full((count,), steps)
        while len(row):
            signed = size == 2
            inputs[row[signed], start[signed]] = self._minus
            inner = size > 2
            row, start, size = row[inner], start[inner], size[inner]
            inputs[row, start] = self._open
            inputs[row, start + size - 1] = self._close
            pairs = size >= _SMALLEST_PAIR
            drawn = torch.rand(len(row), generator=generator, dtype=torch.float64)
            left = torch.where(pairs, 1 + (drawn * (size - 4)).long(), size - 2)
            middle = start + 1 + left
            operators = integers(self._plus, self._times, (len(row),), generator, inputs.dtype)
            inputs[row[pairs], middle[pairs]] = operators[pairs]
            row = torch.cat([row, row[pairs]])
            size = torch.cat([left, (size - left - 3)[pairs]])
            start = torch.cat([start + 1, middle[pairs] + 1])

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the value modulo ``modulus``, ``[count]``.

        A frame is the sum of the finished terms, the unfinished term, and the operator before the next operand. An
        opening bracket stores the frame, a closing one restores it, with the value in the brackets as operand.
        """
        count, steps = inputs.shape
        empty = torch.tensor([0, 0, self._plus]).expand(count, 3)
        stored = torch.zeros((steps // 3 + 2) if self.brackets else 1, count, 3, dtype=torch.int64)
        rows, depth = torch.arange(count), torch.zeros(count, dtype=torch.int64)
        frame, negative, before = empty, torch.zeros(count, dtype=torch.bool), torch.full((count,), self._plus)
        for symbol in inputs.long().t():
            is_digit = symbol <= self.modulus
            opens, closes = symbol == self._open, symbol == self._close
            operand = torch.where(negative, -(symbol - 1), symbol - 1)
            if self.brackets:
                stored[depth[opens], rows[opens]] = frame[opens]
                operand = torch.where(closes, frame[:, 0] + frame[:, 1], operand)
                depth = depth + opens.long() - closes.long()
                frame = torch.where(closes.unsqueeze(1), stored[depth, rows], frame)
                frame = torch.where(opens.unsqueeze(1), empty, frame)
            frame = torch.where((is_digit | closes).unsqueeze(1), self._apply(frame, operand), frame)
            # A minus after an operator or an opening bracket, or at the start, is a sign.
            negative = (symbol == self._minus) & (before > self.modulus) & (before != self._close)
            is_operator = (symbol > self.modulus) & (symbol < self._open) & ~negative
            frame = torch.where(is_operator.unsqueeze(1), torch.stack([*frame.unbind(1)[:2], symbol], 1), frame)
            before = symbol
        return (frame[:, 0] + frame[:, 1]) % self.modulus

    def _apply(self, frame: Tensor, operand: Tensor) -> Tensor:
        """Return the frame after an operand."""
        total, term, operator = frame.unbind(1)
        times = operator == self._times
        total = torch.where(times, total, total + term)
        term = torch.where(times, term * operand, torch.where(operator == self._minus, -operand, operand))
        return torch.stack([total % self.modulus, term % self.modulus, operator], 1)

    def relevant(self, inputs: Tensor) -> Tensor:
        """Every position: a digit does not matter where it is multiplied by 0, but any of the factors may be 0."""
        return torch.ones_like(inputs, dtype=torch.bool)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace digits by other ones; operators and brackets stay."""
        digits = inputs <= self.modulus
        new = another(inputs.clamp(max=self.modulus), 1, self.modulus, generator)
        return torch.where(where & digits, new.to(inputs.dtype), inputs)


@cache
def _products(modulus: int) -> NDArray[np.int64]:
    """Return the table of products of residues."""
    residues = np.arange(modulus)
    return np.outer(residues, residues) % modulus


@cache
def shares_without_brackets(modulus: int, operators: int) -> tuple[float, ...]:
    r"""Return the probability of each value of an expression with so many uniform operators.

    With :math:`g_k(ω, t) = E[e^{-2 π i ω s / m}; t]` for the sum :math:`s` of the finished terms and the unfinished
    term :math:`t`, an operator and a digit multiply :math:`g` by a matrix: with probability 1/3 the term by a uniform
    digit, else they add it to the sum, and a uniform digit (or its negative) begins the next one.
    """
    residues = np.arange(modulus)
    wave = np.exp(-2j * np.pi * np.outer(residues, residues) / modulus)  # [ω, t]
    multiply = (_products(modulus)[:, :, None] == residues).mean(1)  # [t, new t]
    steps = multiply / 3 + 2 / 3 * wave[:, :, None] / modulus
    start = np.full(modulus, 1 / modulus)
    found = np.einsum("t,wtu,wu->w", start, np.linalg.matrix_power(steps, operators), wave)
    return tuple(np.fft.ifft(found).real.clip(min=0).tolist())


@cache
def shares_with_brackets(modulus: int, length: int) -> tuple[float, ...]:
    """Return the probability of each value of a bracketed expression of so many symbols, from all shorter ones."""
    residues = np.arange(modulus)
    sums = (residues[:, None] + residues) % modulus
    differences = (residues[:, None] - residues) % modulus
    found = np.full((length + 1, modulus), 1 / modulus)
    for size in range(_SMALLEST_PAIR, length + 1):
        lefts = found[1 : size - 3]
        both = lefts.T @ lefts[::-1] / len(lefts)  # probability of each pair of operands
        found[size] = sum(
            np.bincount(values.ravel(), both.ravel(), modulus) / 3 for values in (sums, differences, _products(modulus))
        )
    return tuple(found[length].tolist())
