"""Contract of a preprocessor: from texts to token ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from seqlab.contracts.batch import Ragged
from seqlab.contracts.space import SearchSpace, derived_space


class Preprocessor(ABC):
    """Texts to token ids, fitted on the training split only.

    Id 0 is padding, which :meth:`encode` never returns; symbols not seen in fitting share one id.
    """

    from_task: ClassVar[Sequence[str]] = ()
    """Options whose default the task may choose: :attr:`.TaskDefaults.of_model`, :attr:`.TaskDefaults.of_source`."""

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return the options that ``tune`` varies; flags and choices unless overridden."""
        return derived_space(cls)

    @abstractmethod
    def fit(self, texts: Iterable[str]) -> None:
        """Learn the vocabulary from the training split."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode texts; an empty text (after cleaning) is a sequence of length 0."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without padding and with U+FFFD for unknown symbols."""

    def dropped(self, texts: Sequence[str]) -> dict[int, str]:
        """Return which of these texts not to train on, and why: ``{index: reason}``.

        The framework drops them from the training split and counts them; validation and test keep every text.
        """
        return {}

    @property
    def symbols(self) -> tuple[str, ...] | None:
        """Symbols of the token ids, in order; ``None`` if they are not texts."""
        return None

    @property
    def lossy(self) -> str:
        """Why decoding may not restore texts of the training split; empty if it does, up to normalisation.

        If it is not empty, the conformance tests do not compare decoded texts.
        """
        return ""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of token ids, padding and unknown included."""

    @property
    @abstractmethod
    def unknown_id(self) -> int:
        """Id of symbols not seen in fitting."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what was learned in fitting as plain JSON values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: this preprocessor did not write the state.
        """
