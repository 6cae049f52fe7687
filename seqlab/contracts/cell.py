"""A cell is one time step; a probe describes how it passes a gradient on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, final

from jaxtyping import Shaped
from torch import Tensor, nn

from seqlab.contracts.space import SearchSpace, derived_space
from seqlab.errors import check_range

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


State: TypeAlias = tuple[Tensor, ...]
"""A cell's state: a tuple or NamedTuple of tensors, each with a leading batch axis."""


@final
@dataclass(frozen=True)
class Remedy:
    """A proposal to let a cell remember longer.

    Attributes:
        text: the proposal and its source.
        options: options of the cell's constructor, with the values to try.
    """

    text: str
    options: Mapping[str, bool | int | float | str]


class Cell(nn.Module, ABC):
    """One time step of a recurrent network; the framework adds time, depth and direction to :meth:`step`.

    Args:
        input_size: features of one input step; positive.
        hidden_size: features of the state; positive.

    Raises:
        ValueError: a size is not positive.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    """Names of the state tensors, in order; pictures show the first."""
    from_task: ClassVar[Mapping[str, str]] = {}
    """Options that the framework takes from an attribute of the task where they are null, such as
    ``{"chrono_length": "sequence_length"}``."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        check_range("input_size", input_size, 1)
        check_range("hidden_size", hidden_size, 1)
        self.input_size = input_size
        self.hidden_size = hidden_size

    @classmethod
    def remedy(
        cls, cause: Literal["gradient", "saturation"], distance: int, options: Mapping[str, Any]
    ) -> Remedy | None:
        """Propose options that extend this cell's horizon; ``None`` unless overridden.

        Args:
            cause: the gradient vanishes or explodes (``gradient``), or gates saturate (``saturation``).
            distance: number of steps at which training fails.
            options: current options of the constructor.
        """
        return None

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return the options that ``tune`` varies; flags, choices and ``hidden_size`` unless overridden."""
        return derived_space(cls)

    @property
    def output_size(self) -> int:
        """Features of one output step; the hidden size unless overridden."""
        return self.hidden_size

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Return the state before the first step: zeros ``[batch, hidden_size]`` for each name in ``state_names``.

        Args:
            like: a tensor with the batch size, dtype and device of the state.
        """
        return tuple(like.new_zeros(like.shape[0], self.hidden_size) for _ in self.state_names)

    def project(self, x: Shaped[Tensor, "time batch input"]) -> Shaped[Tensor, "time batch *projected"]:
        """Compute what needs no state for all time steps at once; the input itself unless overridden."""
        return x

    @abstractmethod
    def step(self, x: Shaped[Tensor, "batch *projected"], state: State) -> tuple[Shaped[Tensor, "batch output"], State]:
        """Advance one time step.

        Args:
            x: one time step of the result of :meth:`project`.
            state: the state before the step.

        Returns:
            The output and the state after the step, of the same structure, shapes and dtypes as before it.
        """

    def probe(self, x: Shaped[Tensor, "time batch *projected"], states: State) -> Probe:
        r"""Return gates and Jacobians of the steps of a sequence in closed form; empty unless overridden.

        `callbacks=gradient_flow` and the command `inspect` show them; the conformance tests compare them with autograd.

        Args:
            x: the result of :meth:`project` for all steps.
            states: each state tensor before the first step and after every step, ``[time + 1, batch, ...]``.
        """
        return Probe()
