"""Contract of a cell: one time step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final

from jaxtyping import Shaped
from torch import Tensor, nn

from seqlab.contracts.probe import Probe
from seqlab.errors import check_range

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

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        check_range(at_least=1, input_size=input_size, hidden_size=hidden_size)
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
