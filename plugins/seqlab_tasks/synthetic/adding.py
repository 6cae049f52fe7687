"""Add up the two numbers of a sequence that are marked."""

from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, InputSpec
from seqlab_tasks.synthetic.errors import MeanSquaredError, WithinTolerance
from seqlab_tasks.synthetic.generated import Bounds, Determined, integers

TOLERANCE = 0.08
"""The error that Hochreiter & Schmidhuber 1997 let pass: 0.04, of targets that have half the size of these."""


@final
class Adding(Determined):
    r"""Add up the two numbers of a sequence that are marked (Hochreiter & Schmidhuber 1997, experiment 4).

    .. math::
        x_t = (v_t, m_t), \quad v_t \sim \mathrm{Uniform}[0, 1), \quad y = \sum_t m_t v_t, \quad \sum_t m_t = 2

    in the form of later work (Arjovsky, Shah & Bengio 2016, arXiv 1511.06464): the sum is the target as it is, and
    ``T`` the exact length. The mean, 1, is the best guess of whoever ignores the sequence; its squared error is the
    variance of the sum of two uniform numbers, :math:`2/12 = 1/6`.

    Args:
        sequence_length: steps :math:`T`; at least 2.
        marks: where the two marks are: one in each of the ``halves``, each evenly (Arjovsky et al. 2016), or
            ``anywhere`` (Bai, Kolter & Koltun 2018).
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    shortest = 2
    inputs = InputSpec("features", 2)

    def __init__(
        self, sequence_length: int = 50, marks: Literal["halves", "anywhere"] = "halves", **common: Any
    ) -> None:
        super().__init__(sequence_length, **common)
        if marks not in ("halves", "anywhere"):
            raise ValueError(f"marks is {marks!r}; it must be one of halves, anywhere")
        self.marks = marks

    @property
    def monitor(self) -> str:
        """Mean squared error."""
        return "mse"

    @property
    def mode(self) -> Literal["min", "max"]:
        """Smaller is better."""
        return "min"

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    @property
    def bounds(self) -> Bounds:
        """Chance is 1/6; solved is 0.01, 6 % of it."""
        return Bounds(1 / 6, 0.0, "the target is a function of the sequence", 0.01)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw values and marks ``[count, length, 2]``."""
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
        """Add up what is marked, ``[count]``."""
        return inputs.prod(2).sum(1)

    def necessary(self, inputs: Tensor) -> Tensor:
        """The marked positions."""
        return inputs[:, :, 1] > 0

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put other values there, at least 1/4 away; the marks stay."""
        values, marks = inputs.unbind(2)
        new = (values + 0.25 + 0.5 * torch.rand(values.shape, generator=generator)) % 1
        return torch.stack([torch.where(where, new, values), marks], 2)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the mean squared error."""
        return F.mse_loss(outputs.squeeze(-1), batch.targets)

    def metrics(self) -> MetricCollection:
        """Make the mean squared error, and the share of sums that are at most 0.08 off."""
        return MetricCollection(
            {"mse": MeanSquaredError(), "correct": WithinTolerance(TOLERANCE)}, compute_groups=[["mse"], ["correct"]]
        )

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Guess the mean."""
        return torch.ones(len(batch.inputs), 1, device=batch.inputs.device)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Give the sum of each row."""
        found: list[Any] = outputs.squeeze(-1).tolist()
        return found
