"""Tasks whose answer depends on a few inputs at a distance: first symbol, adding, temporal order, recall, copying."""

import math
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, InputSpec
from seqlab.errors import check_choice, check_range
from seqlab_tasks.metrics import Average
from seqlab_tasks.synthetic.generated import (
    MAX_SIZE,
    SOLVED,
    Bounds,
    Deterministic,
    Labelled,
    another,
    integers,
    letters,
    metric_collection,
    step_cross_entropies,
    token_dtype,
)

TOLERANCE = 0.08
"""Largest error of a correct sum: Hochreiter & Schmidhuber 1997 allow 0.04, with targets half as large."""
Marks = Literal["halves", "anywhere"]

_NOISE = 4
"""Number of noise symbols of :class:`TemporalOrder` and :class:`Recall`."""
_X, _Y, _BEGIN, _END = 5, 6, 7, 8
_CERTAIN = 30.0
"""Finite score of a class that is predicted with near certainty."""


@final
class First(Labelled):
    r"""Recall the first symbol of a sequence of random symbols.

    .. math:: u_1, …, u_T \sim \mathrm{Uniform}\{1, …, k\}, \quad y = u_1

    The first symbol is the only one to remember; all later steps are noise: the latching problem of Bengio, Simard &
    Frasconi 1994 ("Learning long-term dependencies with gradient descent is difficult"), with symbols instead of noisy
    numbers. A model that sees exactly the last :math:`n` steps solves it for :math:`T ≤ n`; beyond, it is no better
    than the baseline, :math:`1/k`.

    Args:
        sequence_length: steps :math:`T`, including the first and the last.
        choices: number of symbols :math:`k`; at least 2.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, sequence_length: int = 20, choices: int = 8, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("choices", choices, 2, MAX_SIZE)
        self.choices, self.symbols, self.labels = choices, letters(choices), letters(choices)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``."""
        return integers(1, self.choices, (count, length), generator, token_dtype(self.choices))

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the first symbol, ``[count]``."""
        return inputs[:, 0].long() - 1

    def relevant(self, inputs: Tensor) -> Tensor:
        """The first position."""
        return (torch.arange(inputs.shape[1]) == 0).expand(inputs.shape)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace symbols."""
        return torch.where(where, another(inputs, 1, self.choices, generator), inputs)


def squared_errors(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Return the summed squared errors of outputs ``[batch, 1]``."""
    return (outputs.squeeze(-1) - targets).square().double().sum(), len(targets)


def within_tolerance(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Return the number of outputs ``[batch, 1]`` whose error is at most :data:`TOLERANCE`."""
    return ((outputs.squeeze(-1) - targets).abs() <= TOLERANCE).sum(), len(targets)


@final
class Adding(Deterministic):
    r"""Add the two marked numbers of a sequence (Hochreiter & Schmidhuber 1997, experiment 4).

    .. math::
        x_t = (v_t, m_t), \quad v_t \sim \mathrm{Uniform}[0, 1), \quad y = \sum_t m_t v_t, \quad \sum_t m_t = 2

    in the form of later work (Arjovsky, Shah & Bengio 2016, arXiv 1511.06464): the target is the plain sum, and ``T``
    the exact length. The input-independent baseline predicts the mean, 1; its squared error is the variance of the sum
    of two uniform numbers, :math:`2/12 = 1/6`.

    Args:
        sequence_length: steps :math:`T`; at least 2.
        marks: positions of the two marks: one uniform in each of the ``halves`` (Arjovsky et al. 2016), or
            ``anywhere`` (Bai, Kolter & Koltun 2018).
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    shortest = 2
    inputs = InputSpec("features", 2)
    outputs = 1
    monitor = "mse"
    mode = "min"

    def __init__(self, sequence_length: int = 50, marks: Marks = "halves", **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_choice("marks", marks, Marks)
        self.marks = marks

    @property
    def bounds(self) -> Bounds:
        """The baseline 1/6; solved at 0.01, 6 % of it."""
        return Bounds(1 / 6, 0.0, "the target is a function of the sequence", 0.01)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample values and marks ``[count, length, 2]``."""
        values = torch.rand(count, length, generator=generator)
        if self.marks == "halves":
            half = length // 2
            first = integers(0, half - 1, (count, 1), generator)
            second = integers(half, length - 1, (count, 1), generator)
        else:
            first = integers(0, length - 1, (count, 1), generator)
            second = (first + integers(1, length - 1, (count, 1), generator)) % length
        marks = torch.zeros(count, length).scatter_(1, torch.cat([first, second], 1), 1.0)
        return torch.stack([values, marks], 2)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the sum of the marked values, ``[count]``."""
        return inputs.prod(2).sum(1)

    def relevant(self, inputs: Tensor) -> Tensor:
        """The marked positions."""
        return inputs[:, :, 1] > 0

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace values by others at least 1/4 away; the marks stay."""
        values, marks = inputs.unbind(2)
        new = (values + 0.25 + 0.5 * torch.rand(values.shape, generator=generator)) % 1
        return torch.stack([torch.where(where, new, values), marks], 2)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean squared error."""
        return F.mse_loss(outputs.squeeze(-1), batch.targets)

    def metrics(self) -> MetricCollection:
        """Return the mean squared error, and the share of sums with an error of at most 0.08."""
        return metric_collection(mse=Average(squared_errors), correct=Average(within_tolerance))

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return the mean."""
        return torch.ones(len(batch.inputs), 1, device=batch.inputs.device)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the sum of each row."""
        sums: list[Any] = outputs.squeeze(-1).tolist()
        return sums


@final
class TemporalOrder(Labelled):
    r"""Classify the order of two events far apart (Hochreiter & Schmidhuber 1997, experiment 6a).

    A sequence starts with E, ends with B, and is noise (a, b, c, d) except for two positions, each with X or Y:

    .. math:: t_1 \in [T/10, 2T/10], \quad t_2 \in [4T/10, 5T/10], \quad y = (u_{t_1}, u_{t_2})

    counted from 0, as Pascanu, Mikolov & Bengio 2013 ("On the difficulty of training recurrent neural networks",
    section 4.1) place them for any length. The labels XX, XY, YX and YY are equally frequent: the baseline is 1/4.

    Args:
        sequence_length: steps :math:`T`; at least 5. Half as many follow the second event.
        **common: those of :class:`Generated`.
    """

    shortest = 5
    symbols = ("a", "b", "c", "d", "X", "Y", "E", "B")
    labels = ("XX", "XY", "YX", "YY")

    def __init__(self, sequence_length: int = 50, **common: Any) -> None:
        super().__init__(sequence_length, **common)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length]``."""
        inputs = integers(1, _NOISE, (count, length), generator, torch.uint8)
        inputs[:, 0], inputs[:, -1] = _BEGIN, _END
        for tenth in (1, 4):
            where = integers(tenth * length // 10, (tenth + 1) * length // 10, (count, 1), generator)
            inputs.scatter_(1, where.clamp(min=1), integers(_X, _Y, (count, 1), generator, torch.uint8))
        return inputs

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the pair of events, ``[count]``."""
        events = self.relevant(inputs).long()
        first, second = events.argmax(1, keepdim=True), inputs.shape[1] - 1 - events.flip(1).argmax(1, keepdim=True)
        return (2 * (inputs.gather(1, first) - _X) + inputs.gather(1, second) - _X).squeeze(1).long()

    def relevant(self, inputs: Tensor) -> Tensor:
        """The two events."""
        return (inputs == _X) | (inputs == _Y)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace events by the other one, and noise by other noise; begin and end stay."""
        noise = torch.where(inputs <= _NOISE, another(inputs, 1, _NOISE, generator), inputs)
        return torch.where(where, torch.where(self.relevant(inputs), _X + _Y - inputs, noise), inputs)


@final
class Recall(Labelled):
    r"""Look up the value of a key that was read long before (associative retrieval; Ba et al. 2016, section 4.1).

    .. math::
        k_1 v_1 \, k_2 v_2 … k_n v_n \; \underbrace{z_1 … z_T}_{\text{noise}} \; k_q, \quad y = v_q

    All keys differ, and so do all values. A model must store :math:`n` pairs until the last step asks for one. Ba et
    al. ask immediately, after two marks; here noise of a fixed length lies between. The baseline is one in the number
    of values.

    Args:
        sequence_length: noise :math:`T` between the last pair and the query; the sequence has
            :math:`2n + T + 1` steps.
        pairs: number of pairs :math:`n`.
        choices: size of the set of keys, and of values; at least 2 and at least ``pairs``.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, sequence_length: int = 20, pairs: int = 3, choices: int = 8, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("pairs", pairs, 1, MAX_SIZE)
        check_range("choices", choices, max(2, pairs), MAX_SIZE)
        self.pairs, self.choices = pairs, choices
        self.labels = [f"v{value}" for value in range(choices)]
        self.symbols = [*(f"k{key}" for key in range(choices)), *self.labels, *(f"z{noise}" for noise in range(_NOISE))]

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, 2 pairs + length + 1]``."""
        drawn = torch.rand(2, count, self.choices, generator=generator).argsort(2)[:, :, : self.pairs]
        keys, values = drawn[0] + 1, drawn[1] + 1 + self.choices
        least = 2 * self.choices + 1
        dtype = token_dtype(least + _NOISE - 1)
        noise = integers(least, least + _NOISE - 1, (count, length), generator, dtype)
        query = keys.gather(1, integers(0, self.pairs - 1, (count, 1), generator))
        pairs = torch.stack([keys, values], 2).flatten(1)
        return torch.cat([pairs.to(dtype), noise, query.to(dtype)], 1)

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the value of the queried key, ``[count]``."""
        values = inputs[:, 1 : 2 * self.pairs : 2] - 1 - self.choices
        return (values * self._queried(inputs)).sum(1)

    def _queried(self, inputs: Tensor) -> Tensor:
        """Return which pair is queried, ``[count, pairs]``."""
        return inputs[:, : 2 * self.pairs : 2] == inputs[:, -1:]

    def relevant(self, inputs: Tensor) -> Tensor:
        """The queried pair and the query."""
        mask = torch.zeros_like(inputs, dtype=torch.bool)
        mask[:, : 2 * self.pairs] = self._queried(inputs).repeat_interleave(2, 1)
        mask[:, -1] = True
        return mask

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace values and noise, and query the next pair; the keys of pairs stay."""
        values = (inputs > self.choices) & (inputs <= 2 * self.choices)
        least = 2 * self.choices + 1
        new = torch.where(values, another(inputs, self.choices + 1, 2 * self.choices, generator), inputs)
        new = torch.where(inputs >= least, another(inputs, least, least + _NOISE - 1, generator), new)
        keys = inputs[:, : 2 * self.pairs : 2]
        new[:, -1] = keys[self._queried(inputs).roll(1, 1)]
        return torch.where(where, new, inputs)


def copied_symbols(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Return the correct predictions of targets above 0 (class 0 is the blank), and the number of these targets."""
    hits = (outputs.argmax(-1) == targets)[targets > 0]
    return hits.sum(), len(hits)


@final
class Copying(Deterministic):
    r"""Reproduce symbols after a long blank (Arjovsky, Shah & Bengio 2016, arXiv 1511.06464).

    .. math::
        \text{input: } s_1 … s_n \; \_^{T-1} \; : \; \_^n, \quad
        \text{target: } \_^{T+n} \; s_1 … s_n, \quad s_i \sim \mathrm{Uniform}\{1, …, k\}

    with :math:`n = 10` symbols of :math:`k = 8` kinds, a blank, and a delimiter after which to start; each symbol is
    due :math:`T + n` steps after it was read. There is one output per step. The loss is the mean cross-entropy of all
    :math:`T + 2n` steps; a predictor that knows only the time has :math:`n \ln k / (T + 2n)`. The accuracy is that of
    the symbols alone, with a baseline of :math:`1/k`.

    Args:
        sequence_length: :math:`T`, the blanks and the delimiter between reading and writing.
        copied: number of symbols :math:`n`.
        choices: kinds of symbols :math:`k`; at least 2.
        **common: those of :class:`Generated`.

    Raises:
        ValueError: an option is out of range.
    """

    per_step = True
    monitor = "accuracy"

    def __init__(self, sequence_length: int = 20, copied: int = 10, choices: int = 8, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        check_range("copied", copied, 1, MAX_SIZE)
        check_range("choices", choices, 2, MAX_SIZE)
        self.copied, self.choices = copied, choices

    @property
    def inputs(self) -> InputSpec:  # type: ignore[override]  # an attribute that is computed
        """The padding, the symbols, the blank and the delimiter."""
        return InputSpec("tokens", self.choices + 3, ("", *letters(self.choices), "_", ":"))

    @property
    def outputs(self) -> int:
        """The blank and the symbols."""
        return self.choices + 1

    @property
    def bounds(self) -> Bounds:
        """The baseline ``1/k``, and 1 as the optimum."""
        return Bounds(1 / self.choices, 1.0, "the targets are a function of the sequence", SOLVED)

    @property
    def baseline_loss(self) -> float:
        """Loss of a predictor that knows only the time, in nats per step."""
        return self.copied * math.log(self.choices) / (self.sequence_length + 2 * self.copied)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Sample token ids ``[count, length + 2 copied]``."""
        blank = self.choices + 1
        inputs = torch.full((count, length + 2 * self.copied), blank, dtype=token_dtype(blank + 1))
        inputs[:, : self.copied] = integers(1, self.choices, (count, self.copied), generator)
        inputs[:, self.copied + length - 1] = blank + 1
        return inputs

    def answer(self, inputs: Tensor) -> Tensor:
        """Return the class of each step: blanks (0), then the symbols (from 1)."""
        targets = torch.zeros_like(inputs, dtype=torch.int64)
        targets[:, -self.copied :] = inputs[:, : self.copied]
        return targets

    def relevant(self, inputs: Tensor) -> Tensor:
        """The symbols."""
        return (torch.arange(inputs.shape[1]) < self.copied).expand(inputs.shape)

    def perturb(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Replace symbols and blanks by other symbols; the delimiter stays."""
        new = another(inputs.clamp(max=self.choices), 1, self.choices, generator)
        return torch.where(where & (inputs <= self.choices + 1), new, inputs)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of all steps."""
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())

    def metrics(self) -> MetricCollection:
        """Return the accuracy of the symbols, and the cross-entropy of all steps (nats)."""
        return metric_collection(accuracy=Average(copied_symbols), loss=Average(step_cross_entropies))

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Return near certainty for the blanks, then equal scores for all symbols."""
        rows, time = batch.inputs.shape
        scores = torch.zeros(time, self.outputs, device=batch.inputs.device)
        scores[: time - self.copied, 0] = _CERTAIN
        scores[time - self.copied :, 0] = -_CERTAIN
        return scores.expand(rows, -1, -1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Return the symbols predicted at the end of each row; ``_`` is a blank."""
        names = ["_", *letters(self.choices)]
        ends = outputs[:, -self.copied :].argmax(-1).tolist()
        return ["".join(names[index] for index in row) for row in ends]
