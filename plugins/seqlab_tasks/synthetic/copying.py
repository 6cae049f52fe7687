"""Write down again what was read before a long blank."""

import math
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchmetrics import MetricCollection

from seqlab import Batch, InputSpec
from seqlab_tasks.synthetic.errors import AccuracyOfRecalled, CrossEntropyOfSteps
from seqlab_tasks.synthetic.generated import Bounds, Determined, another, at_least, integers
from seqlab_tasks.synthetic.labelled import SOLVED, letters

_SURE = 30.0
"""Score of a class that is as good as certain: finite, so that a loss is."""


@final
class Copying(Determined):
    r"""Write down again what was read before a long blank (Arjovsky, Shah & Bengio 2016, arXiv 1511.06464).

    .. math::
        \text{input: } s_1 … s_n \; \_^{T-1} \; : \; \_^n, \quad
        \text{target: } \_^{T+n} \; s_1 … s_n, \quad s_i \sim \mathrm{Uniform}\{1, …, k\}

    with :math:`n = 10` symbols of :math:`k = 8` kinds, a blank, and a delimiter after which to begin; each symbol is to
    be written :math:`T + n` steps after it was read. The task is Hochreiter & Schmidhuber's idea in the paper's form.
    One output a step; the loss is the mean cross-entropy of all :math:`T + 2n` of them, of which whoever knows the time
    and remembers nothing has :math:`n \ln k / (T + 2n)`. The accuracy is that of the symbols alone, at chance
    :math:`1/k`.

    Args:
        sequence_length: :math:`T`, the blanks and the delimiter between reading and writing.
        copied: number of symbols :math:`n`.
        choices: kinds of symbols :math:`k`; at least 2.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    per_step = True

    def __init__(self, sequence_length: int = 20, copied: int = 10, choices: int = 8, **common: Any) -> None:
        super().__init__(sequence_length, **common)
        at_least("copied", copied, 1)
        at_least("choices", choices, 2)
        self.copied, self.choices = copied, choices

    @property
    def inputs(self) -> InputSpec:  # type: ignore[override]  # an attribute that is computed
        """The symbols, the blank and the delimiter, behind the padding."""
        return InputSpec("tokens", self.choices + 3, ("", *letters(self.choices), "_", ":"))

    @property
    def monitor(self) -> str:
        """Accuracy of the symbols."""
        return "accuracy"

    @property
    def outputs(self) -> int:
        """The blank, and the symbols."""
        return self.choices + 1

    @property
    def bounds(self) -> Bounds:
        """Chance is one in the kinds of symbols; the best is 1."""
        return Bounds(1 / self.choices, 1.0, "the targets are a function of the sequence", SOLVED)

    @property
    def chance_loss(self) -> float:
        """The loss of whoever knows the time and remembers nothing, in nats a step."""
        return self.copied * math.log(self.choices) / (self.sequence_length + 2 * self.copied)

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, length + 2 copied]``."""
        blank = self.choices + 1
        inputs = torch.full((count, length + 2 * self.copied), blank)
        inputs[:, : self.copied] = integers(1, self.choices, (count, self.copied), generator)
        inputs[:, self.copied + length - 1] = blank + 1
        return inputs

    def answer(self, inputs: Tensor) -> Tensor:
        """Write the blanks (0) and then the symbols (from 1 on), a class a step."""
        targets = torch.zeros_like(inputs)
        targets[:, -self.copied :] = inputs[:, : self.copied]
        return targets

    def necessary(self, inputs: Tensor) -> Tensor:
        """The symbols."""
        return (torch.arange(inputs.shape[1]) < self.copied).expand(inputs.shape)

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put other symbols there; one in place of a blank is of no account, and the delimiter stays."""
        new = another(inputs.clamp(max=self.choices), 1, self.choices, generator)
        return torch.where(where & (inputs <= self.choices + 1), new, inputs)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Compute the mean cross-entropy of all steps."""
        return F.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())

    def metrics(self) -> MetricCollection:
        """Make the accuracy of the symbols, and the cross-entropy of all steps (nats)."""
        return MetricCollection(
            {"accuracy": AccuracyOfRecalled(), "loss": CrossEntropyOfSteps()}, compute_groups=[["accuracy"], ["loss"]]
        )

    def baseline_outputs(self, batch: Batch) -> Tensor:
        """Be sure of the blanks, and give all symbols the same probability at the end."""
        rows, time = batch.inputs.shape
        scores = torch.zeros(time, self.outputs, device=batch.inputs.device)
        scores[: time - self.copied, 0] = _SURE
        scores[time - self.copied :, 0] = -_SURE
        return scores.expand(rows, -1, -1)

    def decode(self, outputs: Tensor, top: int = 3) -> list[Any]:
        """Spell what each row writes at the end; ``_`` is a blank."""
        names = ["_", *letters(self.choices)]
        ends = outputs[:, -self.copied :].argmax(-1).tolist()
        return ["".join(names[index] for index in row) for row in ends]
