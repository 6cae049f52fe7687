"""Predict a hidden Markov source whose entropy rate is known."""

import math
from functools import cache
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, InputSpec
from seqlab_tasks.classification import likeliest
from seqlab_tasks.synthetic.errors import CrossEntropyOfSteps
from seqlab_tasks.synthetic.generated import Bounds, Generated, at_least

ZERO, ONE, BEGIN = 1, 2, 3


@final
class HMM(Generated):
    r"""Predict each symbol of a unifilar hidden Markov source from those before it.

    The source emits blocks, a single 0 with probability :math:`p` or :math:`d` ones in a row, so that runs of ones
    have a multiple of :math:`d` (for :math:`d = 2` the even process; Crutchfield & Feldman 2003, "Regularities unseen,
    randomness observed"). Its hidden states are :math:`A`, between blocks, and :math:`B_1, …, B_{d-1}` within a block
    of ones. State and symbol determine the next state (unifilar), so that whoever counts the ones since the last 0
    modulo :math:`d` knows the state; no finite number of past symbols suffices. Only :math:`A` leaves a choice, and

    .. math::
        π_A = \frac 1 {p + (1 - p) d}, \quad h = π_A \, H(p), \quad H(p) = -p \ln p - (1 - p) \ln(1 - p)

    is the entropy rate in nats a symbol: the loss of the best predictor far from the beginning. Sequences begin in
    :math:`A`, where :math:`a_t = P(S_t = A)` obeys :math:`a_t = p\, a_{t-1} + (1 - p)\, a_{t-d}`, :math:`a_0 = 1`; the
    best loss over :math:`T` symbols is therefore :math:`H(p) \sum_{t<T} a_t / T`, and :math:`\sum_{t<T} H(p a_t) / T`
    that of whoever knows the time and reads nothing.

    Args:
        sequence_length: ones in a block, :math:`d`, to be counted; at least 2.
        blocks: the sequence has :math:`T = d` times so many symbols.
        zero: probability :math:`p` of a block that is a 0; above 0 and below 1.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    per_step = True
    shortest = 2
    inputs = InputSpec("tokens", 4, ("", "0", "1", "^"))

    def __init__(self, sequence_length: int = 5, blocks: int = 20, zero: float = 0.5, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        at_least("blocks", blocks, 1)
        if not 0 < zero < 1:
            raise ValueError(f"zero is {zero}; it must be above 0 and below 1")
        self.blocks, self.zero = blocks, zero

    @property
    def monitor(self) -> str:
        """Cross-entropy, nats a symbol."""
        return "loss"

    @property
    def mode(self) -> Literal["min", "max"]:
        """Smaller is better."""
        return "min"

    @property
    def outputs(self) -> int:
        """The symbols 0 and 1."""
        return 2

    @property
    def entropy_rate(self) -> float:
        """Nats a symbol, far from the beginning."""
        return entropy(self.zero) / (self.zero + (1 - self.zero) * self.sequence_length)

    @property
    def bounds(self) -> Bounds:
        """Chance and the best loss, both exact; solved is 5 % of the way from the best to chance."""
        between = between_blocks(self.sequence_length, self.blocks * self.sequence_length, self.zero)
        chance = sum(entropy(self.zero * share) for share in between) / len(between)
        best = entropy(self.zero) * sum(between) / len(between)
        reason = f"the source's entropy over these symbols; its rate is {self.entropy_rate:.6f}"
        return Bounds(chance, best, reason, best + 0.05 * (chance - best))

    def made(self, count: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw token ids and targets ``[count, blocks * length]``: each symbol is read one step after it was due."""
        steps = self.blocks * length
        zeros = torch.rand(count, steps, generator=generator) < self.zero
        ends = torch.where(zeros, 1, length).cumsum(1)
        block = torch.searchsorted(ends, torch.arange(steps).repeat(count, 1), right=True)
        targets = (~zeros).long().gather(1, block)
        begin = torch.full((count, 1), BEGIN)
        return torch.cat([begin, targets[:, :-1] + ZERO], 1), targets

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the mean cross-entropy of the symbols."""
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())

    def metrics(self) -> MetricCollection:
        """Make the cross-entropy (nats a symbol)."""
        return MetricCollection({"loss": CrossEntropyOfSteps()})

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Give the log of each symbol's probability at each step."""
        rows, time = batch.inputs.shape
        zero = self.zero * torch.tensor(between_blocks(time // self.blocks, time, self.zero), dtype=torch.float64)
        shares = torch.stack([zero, 1 - zero], 1).clamp(min=1e-12).log().float()
        return shares.to(batch.inputs.device).expand(rows, -1, -1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Name the likeliest next symbols of each row, from the logits at its last step."""
        return likeliest(outputs[:, -1], top, ("0", "1"))


def entropy(share: float) -> float:
    """Compute the entropy of two outcomes, in nats."""
    return -sum(part * math.log(part) for part in (share, 1 - share) if part > 0)


@cache
def between_blocks(ones: int, steps: int, zero: float) -> tuple[float, ...]:
    """Give the probability that a block begins at each step, the first of which begins one."""
    found = [1.0]
    for step in range(1, steps):
        found.append(zero * found[step - 1] + (1 - zero) * (found[step - ones] if step >= ones else 0.0))
    return tuple(found)
