"""What every preprocessing here shares: named steps first, then a tokeniser with a vocabulary."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seqlab import Preprocessor
from seqlab_preprocessing.chain import Chain
from seqlab_preprocessing.helpers import mapped

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Token ids that every vocabulary has, and the first one of its own."""
UNKNOWN_SYMBOL = "<unk>"
"""How the unknown token is shown, and written in corpora such as the Penn Treebank."""


class Pipeline(Preprocessor):
    """A chain of steps, and ids from 2 on for what a subclass makes of a clean text.

    Args:
        chain: what is done to each text first.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def cleaned(self, texts: Iterable[str]) -> Iterator[str]:
        """Do the steps to texts, in several processes where that pays; the texts are read as they are needed."""
        if not self.chain:  # NFC alone is faster than sending texts around
            return (text for given in texts for text in self.chain.clean([given]))
        return mapped(self.chain.clean, texts)

    def dropped(self, texts: Sequence[str]) -> dict[int, str]:
        """Say which of these texts are not fit to be trained on, and why: a filter's reason, or nothing is left."""
        return {index: reason for index, reason in enumerate(mapped(self.chain.reasons, texts)) if reason}

    @property
    def size(self) -> int:
        """Number of token ids."""
        self._check_fitted()
        return self._count()

    @property
    def unknown_id(self) -> int:
        """The id of every token that is not in the vocabulary."""
        return UNKNOWN

    @abstractmethod
    def _count(self) -> int:
        """Count the token ids; 2 if nothing was learned yet."""

    def _check_fitted(self) -> None:
        if self._count() <= FIRST:
            raise ValueError("the vocabulary is not known yet; fit() or load_state_dict() comes first")

    def _known(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Give token ids without padding.

        Raises:
            ValueError: one of them is none of this vocabulary's.
        """
        self._check_fitted()
        wanted = np.asarray(ids, np.int64).reshape(-1)
        wrong = wanted[(wanted < 0) | (wanted >= self._count())]
        if len(wrong):
            raise ValueError(f"{wrong[0]} is no token id; there are 0 to {self._count() - 1}")
        kept: NDArray[np.int64] = wanted[wanted != PADDING]
        return kept


def limits(min_count: int, max_size: int | None) -> str:
    """Say why a vocabulary of limited size loses something; empty if it is not limited."""
    given = {"min_count": min_count if min_count > 1 else None, "max_size": max_size}
    named = " and ".join(f"{name}={value}" for name, value in given.items() if value is not None)
    return f"{named} makes rare tokens unknown" if named else ""
