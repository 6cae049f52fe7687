"""Tell the order of two events that lie far apart."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Generator, Tensor

from seqlab_tasks.synthetic.generated import another, integers
from seqlab_tasks.synthetic.labelled import Labelled

SYMBOLS = ("a", "b", "c", "d", "X", "Y", "E", "B")
NOISE, X, Y, BEGIN, END = 4, 5, 6, 7, 8


@final
class TemporalOrder(Labelled):
    r"""Tell the order of two events that lie far apart (Hochreiter & Schmidhuber 1997, experiment 6a).

    A sequence begins with E, ends with B, and is noise (a, b, c, d) but for two positions, each with X or Y:

    .. math:: t_1 \in [T/10, 2T/10], \quad t_2 \in [4T/10, 5T/10], \quad y = (u_{t_1}, u_{t_2})

    counted from 0, as Pascanu, Mikolov & Bengio 2013 ("On the difficulty of training recurrent neural networks",
    section 4.1) place them for any length. The four answers XX, XY, YX and YY are as frequent: chance is 1/4.

    Args:
        sequence_length: steps :math:`T`; at least 5. The second event is followed by half as many.
        **common: ``examples``, ``held_out``, ``split_seed``, ``fresh``, ``eval_lengths``.

    Raises:
        ValueError: an option is out of its range.
    """

    shortest = 5

    def __init__(self, sequence_length: int = 50, **common: Any) -> None:
        super().__init__(sequence_length, **common)

    @property
    def symbols(self) -> Sequence[str]:
        """Noise, events, beginning and end."""
        return SYMBOLS

    @property
    def labels(self) -> Sequence[str]:
        """The first event and the second."""
        return ("XX", "XY", "YX", "YY")

    def sequences(self, count: int, length: int, generator: Generator) -> Tensor:
        """Draw token ids ``[count, length]``."""
        inputs = integers(1, NOISE, (count, length), generator)
        inputs[:, 0], inputs[:, -1] = BEGIN, END
        for tenth in (1, 4):
            where = integers(tenth * length // 10, (tenth + 1) * length // 10, (count, 1), generator)
            inputs.scatter_(1, where.clamp(min=1), integers(X, Y, (count, 1), generator))
        return inputs

    def answer(self, inputs: Tensor) -> Tensor:
        """Read off the events, ``[count]``."""
        events = self.necessary(inputs).long()
        first, second = events.argmax(1, keepdim=True), inputs.shape[1] - 1 - events.flip(1).argmax(1, keepdim=True)
        return (2 * (inputs.gather(1, first) - X) + inputs.gather(1, second) - X).squeeze(1)

    def necessary(self, inputs: Tensor) -> Tensor:
        """The two events."""
        return (inputs == X) | (inputs == Y)

    def changed(self, inputs: Tensor, where: Tensor, generator: Generator) -> Tensor:
        """Put the other event, or other noise, there; beginning and end stay."""
        noise = torch.where(inputs <= NOISE, another(inputs, 1, NOISE, generator), inputs)
        return torch.where(where, torch.where(self.necessary(inputs), X + Y - inputs, noise), inputs)
