"""Gates and Jacobians of the steps of a cell in closed form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

from torch import Tensor

VectorJacobianProduct: TypeAlias = Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""From a step and the gradient with respect to the state after it to the gradient for the state before it."""

TensorProduct: TypeAlias = Callable[[int, Tensor], Tensor]
"""The same for one state tensor."""


@final
@dataclass(frozen=True)
class Gate:
    """Activations of a gate, or of another unit whose saturation stops a gradient.

    Attributes:
        values: ``[time, batch, units]``.
        low, high: limits of the range: 0 and 1 of a sigmoid, -1 and 1 of a tanh, 0 and infinity of a relu.
    """

    values: Tensor
    low: float = 0.0
    high: float = 1.0

    def saturated(self) -> tuple[Tensor, Tensor]:
        """Return masks of the activations in the lowest and in the highest tenth of the range.

        For a range symmetric around 0 these are :math:`|a| > 0.9` of the limit, as for a tanh; a relu saturates at 0.
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
    r"""Gates and Jacobians of the steps of a sequence in closed form; each is optional.

    Gradients are those of autograd for the state tensors. Where one tensor of a step is computed from another, as
    :math:`h_t` from :math:`c_t` in an LSTM, the gradient of the latter includes the path through the former. Steps
    count from 0; the functions are not called for step 0, whose previous state is given.

    Attributes:
        gates: by name.
        product: the Jacobian of a step, :math:`∂L/∂s_{t-1} = ∂L/∂s_t \; ∂s_t/∂s_{t-1}`, for all state tensors.
        gain: upper bound of the spectral norm of that Jacobian, ``[time, batch]``; for a state of one tensor.
        forget: by state tensor, the factor ``[time, batch, units]`` on its previous value alone: the forget gate of an
            LSTM.
        terms: by state tensor, its own Jacobian with the paths through the gates, :math:`∂c_t/∂c_{t-1}`.
    """

    gates: Mapping[str, Gate] = field(default_factory=dict)
    product: VectorJacobianProduct | None = None
    gain: Tensor | None = None
    forget: Mapping[str, Tensor] = field(default_factory=dict)
    terms: Mapping[str, TensorProduct] = field(default_factory=dict)
