"""A cell is one time step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final

from jaxtyping import Shaped
from torch import Tensor, nn

from seqlab.contracts.probe import Probe
from seqlab.errors import check_range

State: TypeAlias = tuple[Tensor, ...]
"""A cell's state: a tuple (or NamedTuple) of tensors, each with a leading batch axis."""


@final
@dataclass(frozen=True)
class Remedy:
    """What should let a cell remember longer.

    Attributes:
        text: what it is, and its source.
        options: of the cell's constructor, with the values to try.
    """

    text: str
    options: Mapping[str, bool | int | float | str]


class Cell(nn.Module, ABC):
    """One time step of a recurrent network; whoever writes :meth:`step` gets time, depth and direction for free.

    Args:
        input_size: features of one input step; positive.
        hidden_size: features of the state; positive.

    Raises:
        ValueError: a size is not positive.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    """A name for each leaf of the state, in order; the first is the one pictures show."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        check_range(at_least=1, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size

    @classmethod
    def remedy(
        cls, cause: Literal["gradient", "saturation"], distance: int, options: Mapping[str, Any]
    ) -> Remedy | None:
        """Propose what should move this cell's horizon; nothing unless overridden.

        Args:
            cause: what limits it: the gradient vanishes or explodes on its way back, with saturated gates or without.
            distance: steps that it cannot be trained to bridge.
            options: of the constructor, as they are now.
        """
        return None

    @property
    def output_size(self) -> int:
        """Features of one output step; the hidden size unless overridden."""
        return self.hidden_size

    def initial_state(self, like: Shaped[Tensor, "batch *features"]) -> State:
        """Make the state before the first step: zeros ``[batch, hidden_size]`` for each name in ``state_names``.

        Args:
            like: a tensor whose leading axis is the batch, and whose dtype and device the state takes.
        """
        return tuple(like.new_zeros(like.shape[0], self.hidden_size) for _ in self.state_names)

    def project(self, x: Shaped[Tensor, "time batch input"]) -> Shaped[Tensor, "time batch *projected"]:
        """Do the work that needs no state, in one call for all time steps; the input itself unless overridden."""
        return x

    @abstractmethod
    def step(self, x: Shaped[Tensor, "batch *projected"], state: State) -> tuple[Shaped[Tensor, "batch output"], State]:
        """Advance one time step.

        Args:
            x: one time step of what :meth:`project` returned.
            state: the state before the step.

        Returns:
            The output and the state after the step, of the same structure, shapes and dtypes as before it.
        """

    def probe(self, x: Shaped[Tensor, "time batch *projected"], states: State) -> Probe:
        r"""Say what the steps of a sequence did, in closed form; optional, nothing unless overridden.

        It is what `callbacks=gradient_flow` and the verb `inspect` show of a cell beyond what autograd tells them; the
        conformance kit holds it against autograd. It computes with the weights at hand, and changes nothing.

        Args:
            x: what :meth:`project` returned, for all steps.
            states: each leaf of the state before the first step and after every step, ``[time + 1, batch, ...]``.
        """
        return Probe()
