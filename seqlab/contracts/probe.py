"""What a cell can say about its own steps: its gates, and how a step passes a gradient on to the state before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

from torch import Tensor

Pull: TypeAlias = Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Takes a step and the gradient of a scalar to the state after it; gives the gradient to the state before it."""

LeafPull: TypeAlias = Callable[[int, Tensor], Tensor]
"""The same for one leaf of the state."""


@final
@dataclass(frozen=True)
class Gate:
    """The activations of a gate, or of anything else whose saturation stops a gradient.

    Attributes:
        values: ``[time, batch, units]``.
        low, high: the ends of its range: 0 and 1 of a sigmoid, -1 and 1 of a tanh, 0 and infinity of a relu.
    """

    values: Tensor
    low: float = 0.0
    high: float = 1.0

    def saturated(self) -> tuple[Tensor, Tensor]:
        """Say which activations lie at the low end and which at the high end, as booleans like ``values``.

        The ends are the outer tenths of the range; of a range around 0 they begin at nine tenths of the way to its
        ends, :math:`|a| > 0.9` for a tanh. A relu has a low end only, which is 0 itself: its slope is 0 there.
        """
        if self.high == float("inf"):
            return self.values <= self.low, self.values > self.high
        if self.low == -self.high:
            return self.values < 0.9 * self.low, self.values > 0.9 * self.high
        width = self.high - self.low
        return self.values < self.low + 0.1 * width, self.values > self.high - 0.1 * width


@final
@dataclass(frozen=True)
class Probe:
    r"""What a cell knows in closed form about the steps of a sequence; every part may be left out.

    A gradient to a leaf of the state is the one that autograd gives for that tensor. Where one leaf of a state is
    computed from another one of the same step, as :math:`h_t` is from :math:`c_t` in an LSTM, the gradient to the
    latter has the way through the former in it. Steps are counted from 0; none of the functions is called for step 0,
    before which the state is a given one.

    Attributes:
        gates: by name.
        product: the whole Jacobian of a step, :math:`∂L/∂s_{t-1} = ∂L/∂s_t \; ∂s_t/∂s_{t-1}`, all leaves together.
        gain: a bound on the largest singular value of that Jacobian, ``[time, batch]``; of a state of one leaf.
        forget: by leaf the factor ``[time, batch, units]`` by which a step keeps what it was, everything else cut: the
            forget gate of an LSTM.
        terms: by leaf the Jacobian of that leaf alone, with the ways through the gates, :math:`∂c_t/∂c_{t-1}`.
    """

    gates: Mapping[str, Gate] = field(default_factory=dict)
    product: Pull | None = None
    gain: Tensor | None = None
    forget: Mapping[str, Tensor] = field(default_factory=dict)
    terms: Mapping[str, LeafPull] = field(default_factory=dict)
