"""Contract of a model: from a batch to the task's outputs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final

from torch import Tensor, nn

from seqlab.contracts.batch import Batch, Examples, Ragged
from seqlab.contracts.cell import Cell
from seqlab.contracts.space import SearchSpace, derived_space

CellFactory: TypeAlias = Callable[[int], Cell]
"""Makes a cell of the configured type for a number of input features."""
HeadFactory: TypeAlias = Callable[[int], nn.Module]
"""Makes the task's head for a number of features (:meth:`.Task.head`)."""


@final
@dataclass(frozen=True)
class InputSpec:
    """Type and size of one input step.

    Attributes:
        kind: ``tokens`` (int64 ids, 0 is padding) or ``features`` (floating point).
        size: number of token ids, padding included, or number of features.
        symbols: the symbol of each token id, if known.
    """

    kind: Literal["tokens", "features"]
    size: int
    symbols: tuple[str, ...] | None = None


class Model(nn.Module, ABC):
    """A torch module, built by the framework from the config. One without parameters is prepared, not trained.

    A constructor's arguments without a default are supplied by the framework where their names are among ``inputs``
    (:class:`InputSpec`), ``outputs`` (``int``: number of the task's outputs), ``head`` (:data:`HeadFactory`),
    ``per_step`` (``bool``: one output a time step, not one a sequence), ``cell`` (:data:`CellFactory`) and ``kernel``
    (``str | Kernel``). Those with a default are the model's options in the config.
    """

    uses_cell: ClassVar[bool] = True
    """Whether the model uses ``cell=`` and ``kernel=``."""
    carries_state: bool = True
    """Whether :meth:`forward` must return a state; set by the framework."""
    narrow_tokens: ClassVar[bool] = False
    """Whether :meth:`forward` takes token ids in uint8 and int16, too, which take less memory."""
    from_task: ClassVar[Sequence[str]] = ()
    """Options whose default the task may choose: :attr:`.TaskDefaults.of_model`, :attr:`.TaskDefaults.of_source`."""
    skips_parameters: bool = False
    """Whether some batches do not use some parameters, of this module or of a submodule with this attribute."""

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return the options that ``tune`` varies; flags and choices unless overridden.

        ``cell``, if there, names the cells to try; those of other distributions are added.
        """
        return derived_space(cls)

    def prepare(self, read: Callable[[], Ragged]) -> None:
        """Collect statistics of the training split before the first step.

        Args:
            read: returns the encoded training split, in memory.
        """

    def fit(self, train: Examples, valid: Examples, weights: Tensor | None = None) -> None:  # not all models need it
        """Fit the weights by an algorithm of the model's own, after :meth:`prepare`; most are trained by an optimiser.

        Parameters that are fitted here do not require a gradient. Running text is not fitted.

        Args:
            train: encoded examples to fit on.
            valid: encoded examples to choose options by.
            weights: of the training examples in the loss, ``[examples]``; ``None`` for equal ones.
        """

    @abstractmethod
    def forward(self, batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
        """Compute the outputs.

        Args:
            batch: a padded batch; do not read its targets.
            state: the state returned by the previous call, for a :class:`.StatefulTask`; ``None`` to begin anew.

        Returns:
            Outputs ``[batch, outputs]`` (or ``[batch, time, outputs]`` if ``per_step``) and the final state
            (``None`` for a model without one, or if not ``carries_state``).
        """

    def kernel_report(self) -> dict[str, str]:
        """Return the kernel that ran last, and why: ``{"kernel": ..., "reason": ...}``; empty without cells."""
        return {}

    def state_size(self) -> int:
        """Return the size of the state of one sequence; 0 for a model without state."""
        return 0
