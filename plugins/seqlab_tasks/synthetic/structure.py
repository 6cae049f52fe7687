"""Tasks whose answer depends on the structure of the whole sequence: parity, brackets, a hidden Markov source."""

import math
from functools import cache
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, InputSpec
from seqlab.errors import check_range
from seqlab_tasks.classification import likeliest
from seqlab_tasks.metrics import Average
from seqlab_tasks.synthetic.generated import (
    MAX_SIZE,
    Bounds,
    Generated,
    Labelled,
    another,
    integers,
    metric_collection,
    step_cross_entropies,
)

BRACKETS = ("()", "[]", "{}", "<>", "«»", "⟨⟩", "⟦⟧", "⌈⌉")


@final
class Parity(Labelled):
    r"""Classify whether a sequence of random bits has an odd number of ones.

    .. math:: b_1, …, b_T \sim \mathrm{Uniform}\{0, 1\}, \quad y = \sum_t b_t \bmod 2

    One bit of state suffices, but every position matters, and no proper part of the sequence is informative (Bengio,
    Simard & Frasconi 1994, the parity problem). The baseline is 1/2.

    Args:
        sequence_length: bits :math:`T`.
        **common: those of :class:`Generated`.
    """

    symbols = ("0", "1")
    labels = ("even", "odd")

    def __init__(self, sequence_length: int = 50, **common: Any) -> None:
        super().__init__(sequence_length, **common)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``: 1 for the bit 0, 2 for the bit 1."""
        return integers(1, 2, (count, length), generator, torch.uint8)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the sum modulo 2, ``[count]``."""
        return (inputs - 1).sum(1) % 2

    def relevant(self, inputs: Tensor) -> Tensor:
        """Every position."""
        return torch.ones_like(inputs, dtype=torch.bool)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Flip bits."""
        return torch.where(where, 3 - inputs, inputs)


@final
class Dyck(Labelled):
    r"""Classify the innermost bracket that is still open: the only one that may be closed next.

    .. math:: o_1 … o_p \; o \; w, \quad w \in \mathrm{Dyck}\text{-}k, \quad y = \mathrm{kind}(o)

    :math:`p ≤ T/10` brackets stay open (a new number for each sequence), then comes the queried one, then a balanced
    word :math:`w`, uniform among all of its length. To find where :math:`w` starts, a model must count the nesting,
    which is about :math:`\sqrt{π T / 2}` deep (Flajolet & Odlyzko 1982), and store the kind of :math:`o` meanwhile.
    Every context-free language is the image of a regular subset of a Dyck language (Chomsky & Schützenberger 1963);
    Hewitt et al. 2020 test recurrent networks with them. The baseline is :math:`1/k`.

    Args:
        sequence_length: total steps :math:`T`; from 10, the queried bracket is at least
            :math:`9T/10 - 1` steps before the end.
        kinds: number of bracket kinds :math:`k`; 2 to 8.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, sequence_length: int = 20, kinds: int = 4, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("kinds", kinds, 2, len(BRACKETS))
        self.kinds, self.labels = kinds, BRACKETS[:kinds]
        self.symbols = [pair[side] for side in (0, 1) for pair in self.labels]  # opening brackets, then closing ones

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``: 1 to ``kinds`` open, the next ``kinds`` close."""
        odd = (length - 1) % 2  # the word's length is even
        most = max(odd, length // 10)
        before = 2 * integers(0, (most - odd) // 2, (count, 1), generator) + odd
        opens = balanced(length - 1 - before, length, generator)
        # The word starts after the queried bracket; all brackets before it open.
        place = torch.arange(length) - before - 1
        up = (place < 0) | opens.gather(1, place.clamp(min=0))
        drawn = integers(1, self.kinds, (count, length), generator, torch.uint8)
        return torch.where(up, drawn, self.kinds + drawn.gather(1, partner(up)))

    def _up(self, inputs: Tensor) -> Tensor:
        return inputs <= self.kinds

    def _innermost(self, inputs: Tensor) -> Tensor:
        """Find the innermost open bracket, ``[count, 1]``: the last one opened at the height below the final one."""
        before, height = heights(self._up(inputs))
        place = torch.arange(inputs.shape[1])
        return torch.where(before == height[:, -1:] - 1, place, -1).amax(1, keepdim=True)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the kind of the innermost open bracket, ``[count]``."""
        return inputs.gather(1, self._innermost(inputs)).squeeze(1).long() - 1

    def relevant(self, inputs: Tensor) -> Tensor:
        """The kind of the innermost open bracket; of the others only the direction matters."""
        return torch.arange(inputs.shape[1]) == self._innermost(inputs)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace brackets by others of the same direction."""
        base = (~self._up(inputs)).long() * self.kinds
        return torch.where(where, another(inputs - base, 1, self.kinds, generator) + base, inputs)


def balanced(lengths: Tensor, steps: int, generator: Generator) -> Tensor:
    r"""Sample balanced words uniformly, by the cycle lemma (Dvoretzky & Motzkin 1947).

    Args:
        lengths: of the words, even, ``[count, 1]``.
        steps: number of columns, more than the longest word has.
        generator: the source of randomness.

    Returns:
        Whether each step opens, ``[count, steps]``; undefined after a word's end.
    """
    place = torch.arange(steps)
    rest = (lengths + 1 - place).clamp(min=0)  # of the arrangement, from each step on
    # A step rises with the share of rises among the remaining steps (Knuth, TAOCP 3.4.2, algorithm S). Time is the
    # first axis: one step of all words at once, in place, costs less than sorting.
    drawn = (torch.rand(len(lengths), steps, generator=generator, dtype=torch.float64) * rest).t().contiguous()
    rises = torch.empty_like(drawn)
    left = (lengths.squeeze(1) // 2).double()
    for numbers, up in zip(drawn, rises, strict=True):
        left.sub_(torch.lt(numbers, left, out=up))
    rises = rises.t().contiguous().bool()
    height = _steps(rises).cumsum(1, dtype=torch.int32).masked_fill_(place > lengths, steps)
    begin = height.argmin(1, keepdim=True) + 1  # after the first minimum
    return rises.gather(1, (begin + place) % (lengths + 1))


def heights(up: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of open brackets before each step and after it."""
    step = _steps(up)
    after = step.cumsum(1, dtype=torch.int32)
    return after - step, after


def _steps(up: Tensor) -> Tensor:
    return up.to(torch.int32).mul_(2).sub_(1)


def partner(up: Tensor) -> Tensor:
    """Find the opening bracket of each closing one, ``[count, steps]``; for an opening one itself.

    At one height, opening and closing brackets alternate: sorted by height, each closing one follows its partner.
    """
    before, after = heights(up)
    steps = up.shape[1]
    place = torch.arange(steps, dtype=torch.int32 if steps < 2**15 else torch.int64)
    # Height and place in one number: NumPy's sort is many times faster than its argsort.
    bits = steps.bit_length()
    key = (torch.minimum(before, after).to(place.dtype) << bits).add_(place)
    order = torch.from_numpy(np.sort(key.numpy(), axis=1)).bitwise_and_((1 << bits) - 1).long()
    previous = torch.empty_like(order).scatter_(1, order, order.roll(1, 1))
    return torch.where(up, place, previous)


@final
class HMM(Generated):
    r"""Predict each symbol of a unifilar hidden Markov source from the symbols before it.

    The source emits blocks: a single 0 with probability :math:`p`, or :math:`d` ones, so that the length of a run of
    ones is a multiple of :math:`d` (for :math:`d = 2` the even process; Crutchfield & Feldman 2003, "Regularities
    unseen, randomness observed"). Its hidden states are :math:`A`, between blocks, and :math:`B_1, …, B_{d-1}` within
    a block of ones. State and symbol determine the next state (unifilar): the number of ones since the last 0, modulo
    :math:`d`, is the state. No finite number of past symbols suffices. Only :math:`A` is random, and

    .. math::
        π_A = \frac 1 {p + (1 - p) d}, \quad h = π_A \, H(p), \quad H(p) = -p \ln p - (1 - p) \ln(1 - p)

    is the entropy rate in nats per symbol: the loss of the best predictor far from the start. Sequences start in
    :math:`A`, where :math:`a_t = P(S_t = A)` obeys :math:`a_t = p\, a_{t-1} + (1 - p)\, a_{t-d}`, :math:`a_0 = 1`. The
    best loss over :math:`T` symbols is therefore :math:`H(p) \sum_{t<T} a_t / T`; a predictor that knows only the time
    has :math:`\sum_{t<T} H(p a_t) / T`.

    Args:
        sequence_length: ones in a block, :math:`d`; at least 2.
        blocks: the sequence has :math:`T = d` times this many symbols.
        zero: probability :math:`p` that a block is a 0; above 0 and below 1.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    per_step = True
    shortest = 2
    inputs = InputSpec("tokens", 4, ("", "0", "1", "^"))
    outputs = 2
    monitor = "loss"
    mode = "min"

    def __init__(self, sequence_length: int = 5, blocks: int = 20, zero: float = 0.5, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("blocks", blocks, 1, MAX_SIZE)
        check_range("zero", zero, above=0, below=1)
        self.blocks, self.zero = blocks, zero

    @property
    def entropy_rate(self) -> float:
        """Nats per symbol, far from the start."""
        return entropy(self.zero) / (self.zero + (1 - self.zero) * self.sequence_length)

    @property
    def bounds(self) -> Bounds:
        """Exact baseline and optimum; solved at 5 % of the way from the optimum to the baseline."""
        between = between_blocks(self.sequence_length, self.blocks * self.sequence_length, self.zero)
        chance = sum(entropy(self.zero * share) for share in between) / len(between)
        best = entropy(self.zero) * sum(between) / len(between)
        reason = f"the source's entropy over these symbols; its rate is {self.entropy_rate:.6f}"
        return Bounds(chance, best, reason, best + 0.05 * (chance - best))

    def generate(self, count: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Sample token ids and targets ``[count, blocks * length]``; the input is the target of the step before."""
        steps = self.blocks * length
        zeros = torch.rand(count, steps, generator=generator) < self.zero
        ends = torch.where(zeros, 1, length).cumsum(1)
        block = torch.searchsorted(ends, torch.arange(steps).repeat(count, 1), right=True)
        targets = (~zeros).long().gather(1, block)
        begin = torch.full((count, 1), 3)
        return torch.cat([begin, targets[:, :-1] + 1], 1), targets

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the symbols."""
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())

    def metrics(self) -> MetricCollection:
        """Return the cross-entropy (nats per symbol)."""
        return metric_collection(loss=Average(step_cross_entropies))

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return the log-probability of each symbol at each step."""
        rows, time = batch.inputs.shape
        zero = self.zero * torch.tensor(between_blocks(time // self.blocks, time, self.zero), dtype=torch.float64)
        shares = torch.stack([zero, 1 - zero], 1).clamp(min=1e-12).log().float()
        return shares.to(batch.inputs.device).expand(rows, -1, -1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the likeliest next symbols of each row, from the logits at its last step."""
        return likeliest(outputs[:, -1], top, ("0", "1"))


def entropy(share: float) -> float:
    """Return the entropy of two outcomes, in nats."""
    return -sum(part * math.log(part) for part in (share, 1 - share) if part > 0)


@cache
def between_blocks(ones: int, steps: int, zero: float) -> tuple[float, ...]:
    """Return the probability that a block starts, at each step; at the first one it is 1."""
    found = [1.0]
    for step in range(1, steps):
        found.append(zero * found[step - 1] + (1 - zero) * (found[step - ones] if step >= ones else 0.0))
    return tuple(found)
