"""A model maps a batch to the task's outputs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final

from torch import Tensor, nn

from seqlab.contracts.batch import Batch, Ragged
from seqlab.contracts.cell import Cell

CellFactory: TypeAlias = Callable[[int], Cell]
"""Makes a cell of the configured type and sizes from the number of its input features."""
HeadFactory: TypeAlias = Callable[[int], nn.Module]
"""Makes the task's head from the number of features it reads (a task's ``head`` method)."""


@final
@dataclass(frozen=True)
class InputSpec:
    """What one input step is.

    Attributes:
        kind: ``tokens`` (int64 ids, 0 is padding) or ``features`` (floating point).
        size: number of token ids, padding included, or number of features.
        symbols: what each token id stands for, where that is known.
    """

    kind: Literal["tokens", "features"]
    size: int
    symbols: tuple[str, ...] | None = None


class Model(nn.Module, ABC):
    """Plain torch, built by the framework from the config. One without parameters is prepared, and not trained.

    A constructor's arguments without a default are supplied by the framework where their names are among ``inputs``
    (:class:`InputSpec`), ``outputs`` (``int``: number of the task's outputs), ``head`` (:data:`HeadFactory`),
    ``per_step`` (``bool``: one output a time step, not one a sequence), ``cell`` (:data:`CellFactory`) and ``kernel``
    (``str | Kernel``). Those with a default are the model's options in the config.
    """

    uses_cell: ClassVar[bool] = True
    """Whether ``cell=`` and ``kernel=`` mean anything to this model."""
    carries_state: bool = True
    """Whether the state that :meth:`forward` returns is looked at; the framework sets it as the task has it."""
    skips_parameters: bool = False
    """Whether some batches leave some parameters out, of this module or (with an attribute of this name) of a part."""

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Gather what the model must know before the first step, such as counts of the training split.

        Args:
            read: gives the encoded training split, all of it in memory.
        """

    @abstractmethod
    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Compute the outputs.

        Args:
            batch: a padded batch; its targets are not to be looked at.
            state: what the previous call returned, for tasks that carry state; ``None`` to begin anew.

        Returns:
            Outputs ``[batch, outputs]`` (or ``[batch, time, outputs]`` if ``per_step``) and the state to carry on
            (``None`` for a model without one, or where ``carries_state`` is false).
        """

    def kernel_report(self) -> dict[str, str]:
        """Which kernel ran last, and why: ``{"kernel": ..., "reason": ...}``; empty for a model without cells."""
        return {}

    def state_size(self) -> int:
        """Count the numbers that one sequence carries from a step to the next; 0 for a model without state."""
        return 0
