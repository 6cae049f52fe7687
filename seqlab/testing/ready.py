"""A task whose splits are made and encoded, as training does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from seqlab.contracts import Batch, Examples, Preprocessor, Ragged, Task


@final
@dataclass(frozen=True)
class Ready:
    """A task whose splits are made, and what encodes them.

    Attributes:
        task: what is checked.
        splits: what it gave.
        preprocessor: fitted on the training split; ``None`` where the inputs are tensors.
    """

    task: Task
    splits: Mapping[str, Examples]
    preprocessor: Preprocessor | None

    def rows(self, split: str, most: int) -> Tensor:
        """Draw so many rows of a split, or take all that there are."""
        return torch.randperm(len(self.splits[split]), generator=torch.Generator().manual_seed(0))[:most]

    def encoded(self, split: str, rows: Tensor) -> Ragged:
        """Encode these rows of a split."""
        inputs = self.splits[split].inputs
        if isinstance(inputs, Ragged):
            parts = [inputs.values[inputs.starts[row] :][: inputs.lengths[row]] for row in rows.tolist()]
            return Ragged.of(parts)
        assert self.preprocessor is not None
        return self.preprocessor.encode([inputs[row] for row in rows.tolist()])

    def batch(self, split: str = "train", most: int = 256) -> Batch:
        """Make a batch as training does: inputs padded to its own longest row, targets by row."""
        return self.batch_of(split, self.rows(split, most))

    def batch_of(self, split: str, rows: Tensor) -> Batch:
        """Make a batch of these rows."""
        inputs, lengths = self.encoded(split, rows).padded(torch.arange(len(rows)))
        return Batch(inputs, lengths, self.splits[split].targets[rows])


def windows(ids: Tensor, size: int) -> Examples:
    """Cut token ids into windows; the targets are the next tokens, and each is one once."""
    ids = ids[: 1 + (len(ids) - 1) // size * size]
    inputs = ids[:-1].view(-1, size)
    return Examples(Ragged(inputs.flatten(), torch.full((len(inputs),), size)), ids[1:].view(-1, size))


@final
class CodePoints(Preprocessor):
    """Each code point that training shows is a token; for tasks whose own preprocessing is not there."""

    def __init__(self) -> None:
        self._seen = ""

    def fit(self, texts: Any) -> None:
        """Collect the code points."""
        self._seen = "".join(sorted({symbol for text in texts for symbol in text}))

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Give a number to each that was seen, and 1 to others."""
        ids = {symbol: index for index, symbol in enumerate(self._seen, start=2)}
        return Ragged.of([torch.tensor([ids.get(symbol, 1) for symbol in text], dtype=torch.int64) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        """Write texts from numbers."""
        return "".join(f"\0\ufffd{self._seen}"[token] for token in ids if token)

    @property
    def size(self) -> int:
        """Code points that were seen, padding and the unknown one."""
        return 2 + len(self._seen)

    @property
    def unknown_id(self) -> int:
        """1."""
        return 1

    def state_dict(self) -> dict[str, Any]:
        """Give the code points."""
        return {"symbols": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._seen = state["symbols"]
