"""Rows of the CSV files in a run folder, for readers that need neither torch nor Lightning."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.io.safe_io import read_bytes

_MOST_FIELDS = 4_000_000
_ROW = 5
"""Fields that a row takes as much memory as, beside its own."""


def read_curves(path: Path) -> list[dict[str, Any]]:
    """Read the rows that are whole; the last one may have been cut by a crash."""
    return [row for row in whole_rows(path) if None not in row and None not in row.values()] if path.exists() else []


def whole_rows(path: Path, *, errors: str = "strict") -> Iterator[dict[str, Any]]:
    """Read the rows of a file whose lines are ended; one with too many fields has them under ``None``.

    Args:
        path: the file.
        errors: what to do with bytes that are not UTF-8.

    Raises:
        UserError: there are more than any run writes, or it is no CSV.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    text = read_bytes(path).decode("utf-8", errors)
    text = text[: text.rfind("\n") + 1]
    if text.count(",") + _ROW * text.count("\n") > _MOST_FIELDS:
        raise UserError(f"{path} has {text.count(chr(10)):,} lines, which is more than a run writes")
    try:
        yield from csv.DictReader(io.StringIO(text, newline=""))
    except csv.Error as error:
        raise UserError(f"{path} is no table: {error}") from error
