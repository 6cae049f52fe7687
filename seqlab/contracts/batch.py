"""Examples as texts, ragged tensors and padded batches, and checks of row lengths."""

import hashlib
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

Lengths: TypeAlias = Sequence[int] | Tensor | Any
"""Valid steps of each row: a list, a tuple, an array of numpy, or a tensor of any integer type on any device."""


def as_lengths(lengths: Lengths) -> Tensor:
    """Convert lengths to an int64 tensor; a tensor stays on its device.

    Args:
        lengths: one integer for each row.

    Raises:
        ValueError: they are not integers, or not one for each row.
    """
    if isinstance(lengths, Tensor):
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise ValueError(f"lengths must be integers, got a tensor of {lengths.dtype}")
        if lengths.dim() != 1:
            raise ValueError(f"lengths must be one integer for each row, got a tensor of shape {tuple(lengths.shape)}")
        return lengths.to(torch.int64)
    values = lengths.tolist() if hasattr(lengths, "tolist") else lengths  # an array's numbers become Python's
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise ValueError(f"lengths must be a sequence of integers, one for each row, got {lengths!r}")
    return torch.tensor([_integer(value) for value in values], dtype=torch.int64)


def check_lengths(lengths: Tensor, rows: int, steps: int) -> None:
    """Check that each row has a length from 0 to ``steps``; values of traced tensors are not checked.

    Args:
        lengths: the result of :func:`as_lengths`.
        rows: of the batch.
        steps: of the padded input.

    Raises:
        ValueError: a length is missing or out of range.
    """
    if (count := lengths.shape[0]) != rows:  # len() would fix a traced size
        raise ValueError(f"lengths must have one number for each of the {rows} rows of the batch, got {count}")
    if torch.compiler.is_compiling() or not rows or torch._C._functorch.is_batchedtensor(lengths):
        return
    least, most = (int(bound) for bound in lengths.aminmax())
    if least < 0 or most > steps:
        wrong = least if least < 0 else most
        row = int((lengths == wrong).nonzero()[0])
        raise ValueError(f"lengths must be from 0 to {steps}, the steps of the input, got {wrong} in row {row}")


def _integer(value: Any) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or abs(number) >= 2**63:
        raise ValueError(f"lengths must be integers, one for each row, got {value!r}")
    return number


NARROW = (torch.uint8, torch.int16)
"""Further dtypes of token ids, in which generated tasks keep theirs; batches of most models have int64."""


class Batch(NamedTuple):
    """A padded batch.

    Attributes:
        inputs: token ids ``[batch, time]`` (int64 unless :attr:`.Model.narrow_tokens`; 0 is padding) or features
            ``[batch, time, features]``.
        lengths: valid steps of each row ``[batch]`` (int64), or ``None`` where every row fills all time steps.
        targets: targets of the task's loss and metrics; the first axis is the batch.
    """

    inputs: Tensor
    lengths: Tensor | None
    targets: Tensor


@final
@dataclass(frozen=True, init=False)
class Ragged:
    """Concatenated sequences of unequal length.

    Attributes:
        values: all steps of all sequences, ``[total]`` token ids or ``[total, features]``.
        lengths: steps of each sequence, ``[sequences]`` (int64).

    Args:
        values: as above; token ids are int64, or of the dtypes of ``NARROW``.
        lengths: the same as any sequence of integers.

    Raises:
        ValueError: the lengths are not integers >= 0, or do not add up to the values.
    """

    values: Tensor
    lengths: Tensor

    def __init__(self, values: Tensor, lengths: Lengths) -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "lengths", as_lengths(lengths))
        if len(self.lengths) and int(self.lengths.min()) < 0:
            raise ValueError(f"lengths must be >= 0, got {int(self.lengths.min())}")
        if int(self.lengths.sum()) != len(self.values):
            raise ValueError(f"lengths sum to {int(self.lengths.sum())}, but there are {len(self.values)} values")

    def __len__(self) -> int:
        return len(self.lengths)

    @staticmethod
    def of(sequences: Sequence[Tensor]) -> "Ragged":
        """Concatenate tensors along their first axis."""
        lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
        values = torch.cat(list(sequences)) if len(sequences) else torch.empty(0, dtype=torch.int64)
        return Ragged(values, lengths)

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the given rows as one zero-padded tensor.

        Args:
            rows: indices of sequences, ``[batch]``.

        Returns:
            The sequences ``[batch, time, ...]`` and their lengths ``[batch]``; ``None`` for equal lengths.
        """
        if self.even is not None and len(rows):
            return self.even[rows], None
        lengths = self.lengths[rows]
        longest = int(lengths.max()) if len(rows) else 0
        steps = torch.arange(longest)
        index = self.starts[rows].unsqueeze(1) + steps
        if bool((lengths == longest).all()):
            return self.values[index], None
        padding = steps >= lengths.unsqueeze(1)
        values = self.values[index.masked_fill(padding, 0)]
        shape = padding.shape + (1,) * (values.dim() - 2)
        return values.masked_fill(padding.view(shape), 0), lengths

    def widened(self) -> "Ragged":
        """Return the same with token ids in int64."""
        return Ragged(self.values.long(), self.lengths) if self.values.dtype in NARROW else self

    def take(self, rows: Tensor) -> "Ragged":
        """Return the given rows, in their order."""
        steps = self.lengths[rows]
        firsts = (self.starts[rows] - (steps.cumsum(0) - steps)).repeat_interleave(steps)
        return Ragged(self.values[firsts + torch.arange(len(firsts))], steps)

    def digests(self) -> list[bytes]:
        """Hash each sequence to 16 bytes."""
        values = self.values.contiguous().cpu().view(-1)
        data = values.view(torch.uint8).numpy().data if len(values) else memoryview(b"")
        step = len(data) // max(1, len(self.values))
        ends = self.lengths.cumsum(0).tolist()
        begins = [0, *ends]
        return [
            hashlib.blake2b(data[begin * step : end * step], digest_size=16).digest()
            for begin, end in zip(begins, ends, strict=False)
        ]

    @cached_property
    def even(self) -> Tensor | None:
        """The values as ``[sequences, steps, ...]`` if all sequences have the same positive length."""
        steps = int(self.lengths[0]) if len(self) else 0
        if not steps or not bool((self.lengths == steps).all()):
            return None
        return self.values.reshape(len(self), steps, *self.values.shape[1:])

    @cached_property
    def starts(self) -> Tensor:
        """Index of the first step of each sequence in ``values``, ``[sequences]``."""
        return self.lengths.cumsum(0) - self.lengths


@final
@dataclass(frozen=True)
class Examples:
    """One split of a data set.

    Attributes:
        inputs: texts, which a preprocessor encodes, or tensors.
        targets: one target for each example; the first axis is the example.
    """

    inputs: Sequence[str] | Ragged
    targets: Tensor

    def __post_init__(self) -> None:
        """Check that inputs and targets agree."""
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"{len(self.inputs)} inputs, but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)


@final
@dataclass(frozen=True)
class Corpus:
    """One split of running text, read in pieces, so that it need not fit into memory.

    Attributes:
        pieces: returns an iterator from the beginning; pieces end where the text may be cut, best after a line.
        size: bytes of the text in UTF-8.
        fingerprint: identifies the text.
    """

    pieces: Callable[[], Iterable[str]]
    size: int
    fingerprint: str
