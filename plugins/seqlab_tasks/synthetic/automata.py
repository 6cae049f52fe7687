"""Tasks that a finite automaton solves: even pairs, cycle navigation, products in a group."""

from functools import cache
from typing import Any, final

import numpy as np
import torch
from torch import Generator, Tensor

from seqlab import Batch
from seqlab.errors import check_choice, check_range
from seqlab_tasks.synthetic.generated import MAX_SIZE, SOLVED, Bounds, Labelled, another, integers, token_dtype
from seqlab_tasks.synthetic.groups import GroupName, generators_of, group_of
from seqlab_tasks.synthetic.stepwise import StepLabelled, outputs_by_length


@final
class EvenPairs(Labelled):
    r"""Classify whether the number of unequal neighbours (01 and 10) in a sequence of random bits is even.

    .. math:: b_1, …, b_T \sim \mathrm{Uniform}\{0, 1\}, \quad y = \sum_{t<T} [b_t ≠ b_{t+1}] \bmod 2 = [b_1 ≠ b_T]

    A regular language of Deletang et al. 2022 ("Neural networks and the Chomsky hierarchy", arXiv 2207.02098). Only the
    first and the last bit matter. The baseline is 1/2. Here sequences have two bits at least, theirs one.

    Args:
        sequence_length: bits :math:`T`; at least 2.
        **common: those of :class:`Generated`.
    """

    shortest = 2
    symbols = ("0", "1")
    labels = ("even", "odd")

    def __init__(self, sequence_length: int = 50, **common: Any) -> None:
        super().__init__(sequence_length, **common)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``: 1 for the bit 0, 2 for the bit 1."""
        return integers(1, 2, (count, length), generator, torch.uint8)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the parity of the unequal neighbours, ``[count]``."""
        return (inputs[:, 1:] != inputs[:, :-1]).sum(1) % 2

    def relevant(self, inputs: Tensor) -> Tensor:
        """The first and the last position."""
        place = torch.arange(inputs.shape[1])
        return ((place == 0) | (place == len(place) - 1)).expand(inputs.shape)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Flip bits."""
        return torch.where(where, 3 - inputs, inputs)


@final
class CycleNavigation(Labelled):
    r"""Return the final position of a random walk on a cycle.

    .. math:: m_1, …, m_T \sim \mathrm{Uniform}\{-1, 0, 1\}, \quad y = \sum_t m_t \bmod k

    A regular language of Deletang et al. 2022 (arXiv 2207.02098), with :math:`k = 5`. The baseline is the likeliest
    position after :math:`T` moves; the discrete Fourier transform of its distribution is
    :math:`((1 + 2 \cos(2 π j / k)) / 3)^T`, which tends to the uniform one.

    Args:
        sequence_length: moves :math:`T`.
        states: positions of the cycle :math:`k`; at least 2.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    symbols = ("-1", "0", "+1")

    def __init__(self, sequence_length: int = 50, states: int = 5, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("states", states, 2, MAX_SIZE)
        self.states = states
        self.labels = [str(state) for state in range(states)]

    @property
    def bounds(self) -> Bounds:
        """The share of the likeliest position, and 1 as the optimum."""
        chance = max(positions(self.states, self.sequence_length))
        return Bounds(chance, 1.0, "the label is a function of the sequence", SOLVED)

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return the log-probability of each position after as many moves."""
        return outputs_by_length(batch, lambda length: positions(self.states, length))

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``: 1, 2, 3 for the moves -1, 0, +1."""
        return integers(1, 3, (count, length), generator, torch.uint8)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the final position, ``[count]``."""
        return (inputs.long() - 2).sum(1) % self.states

    def relevant(self, inputs: Tensor) -> Tensor:
        """Every position."""
        return torch.ones_like(inputs, dtype=torch.bool)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace moves by other ones."""
        return torch.where(where, another(inputs, 1, 3, generator), inputs)


@cache
def positions(states: int, moves: int) -> tuple[float, ...]:
    """Return the probability of each position of :class:`CycleNavigation` after so many moves."""
    transform = (1 + 2 * np.cos(2 * np.pi * np.arange(states) / states)) / 3
    return tuple(np.fft.ifft(transform**moves).real.clip(min=0).tolist())


@final
class WordProblem(StepLabelled):
    r"""Return at each step the product of all elements of a finite group read so far.

    .. math:: g_1, …, g_T \sim \mathrm{Uniform}(G), \quad y_t = g_1 g_2 ⋯ g_t

    The state-tracking task of Merrill, Petty & Sabharwal 2024 ("The illusion of state in state-space models", arXiv
    2404.08819; public code: jopetty/word-problem), whose groups have 60 elements: Z60 is Abelian, A4 x Z5 solvable but
    not Abelian, A5 not solvable, so that its word problem is complete for the complexity class NC1 (Barrington 1989).
    S5 contains A5; Z2 is parity at each step; S3 is the smallest group that is not Abelian. All products are uniform,
    so that the baseline is one in the number of elements. Their data sets hold
    distinct sequences; here each is drawn anew. With ``generators``, elements after the first are the identity or of a
    small generating set: a state has a few successors to learn instead of one for each element.

    Args:
        sequence_length: elements :math:`T`.
        group: Z2, Z60, S3, A4xZ5, A5 or S5; the products of permutations apply the first one first.
        generators: whether elements after the first are the identity or of a generating set, which for A5 has three
            elements.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self, sequence_length: int = 32, group: GroupName = "S3", generators: bool = False, **common: Any
    ) -> None:
        super().__init__(sequence_length, **common)
        check_choice("group", group, GroupName)
        self.group, self.generators = group, generators
        self.symbols = self.labels = group_of(group).names

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``: the number of the element, from 1."""
        order = len(self.symbols)
        found = integers(1, order, (count, length), generator, token_dtype(order))
        if self.generators:
            moves = generators_of(self.group)
            found[:, 1:] = moves[integers(0, len(moves) - 1, (count, length), generator)][:, 1:] + 1
        return found

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the product up to each step, ``[count, length]``."""
        order, products = len(self.symbols), group_of(self.group).table.flatten()
        elements = inputs.long().t() - 1
        found = [elements[0]]
        for element in elements[1:]:
            found.append(products[found[-1] * order + element])
        return torch.stack(found, 1)

    def relevant(self, inputs: Tensor) -> Tensor:
        """Every position."""
        return torch.ones_like(inputs, dtype=torch.bool)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace elements by other ones."""
        found = another(inputs, 1, len(self.symbols), generator)
        if self.generators:
            moves = generators_of(self.group)
            place = torch.searchsorted(moves, inputs.long() - 1).clamp(max=len(moves) - 1)
            found[:, 1:] = moves[another(place, 0, len(moves) - 1, generator)][:, 1:] + 1
        return torch.where(where, found, inputs)
