"""A preprocessor turns texts into token ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from seqlab.contracts.batch import Ragged


class Preprocessor(ABC):
    """Texts to token ids, fitted on the training split only.

    Id 0 is padding and never produced by :meth:`encode`; a symbol that was not seen in fitting has an id of its own.
    """

    @abstractmethod
    def fit(self, texts: Iterable[str]) -> None:
        """Learn the vocabulary from the training split."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Ragged:
        """Encode texts; an empty text (after cleaning) is a sequence of length 0."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Give back the text of token ids; padding is left out, an unknown symbol shows as U+FFFD."""

    def dropped(self, texts: Sequence[str]) -> dict[int, str]:
        """Say which of these texts are not fit to be trained on, and why: ``{index: reason}``.

        The framework leaves them out of the training split and counts them; validation and test keep every text.
        """
        return {}

    @property
    def symbols(self) -> tuple[str, ...] | None:
        """What each token id stands for, in order; ``None`` where that is no text."""
        return None

    @property
    def lossy(self) -> str:
        """Why texts of the training split may not come back from their ids; empty if they do, but for normalisation.

        The conformance tests then do not compare what :meth:`decode` gives with the text.
        """
        return ""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of token ids, padding and unknown included."""

    @property
    @abstractmethod
    def unknown_id(self) -> int:
        """The id of every symbol that was not seen in fitting."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What fitting learned, as plain JSON values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: the state is not one that this preprocessor wrote.
        """
