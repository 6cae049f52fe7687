"""Lengths of the rows of a padded batch, as a caller may give them."""

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Lengths: TypeAlias = Sequence[int] | Tensor | Any
"""Valid steps of each row: a list, a tuple, an array of numpy, or a tensor of any integer type on any device."""


def as_lengths(lengths: Lengths) -> Tensor:
    """Convert lengths to an int64 tensor; a tensor stays on its device.

    Args:
        lengths: one integer for each row.

    Raises:
        ValueError: they are no integers, or not one for each row.
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
    """Check that there is a length from 0 to ``steps`` for each row; a traced tensor has no values to look at.

    Args:
        lengths: as :func:`as_lengths` gives them.
        rows: of the batch.
        steps: of the padded input.

    Raises:
        ValueError: there is not.
    """
    if (count := lengths.shape[0]) != rows:  # not len(), which would fix a traced size
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
