"""Reader and writer of the CSV files in a run folder; imports neither torch nor Lightning."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.io.safe_io import read_bytes

_MOST_FIELDS = 4_000_000
_ROW = 5
"""Memory of a row beside its fields, in fields."""


def read_csv(path: Path, *, errors: str = "strict", damaged: bool = False) -> list[dict[str, str]]:
    """Read the complete rows of a file, none of a missing one; a crash may have cut off the last row.

    Args:
        path: the file.
        errors: how to handle bytes that are not UTF-8, as in ``bytes.decode``.
        damaged: return rows of too many or too few fields, too; these are under ``None``, or are ``None``.
    """
    if not path.exists():
        return []
    text = read_bytes(path).decode("utf-8", errors)
    text = text[: text.rfind("\n") + 1]
    if text.count(",") + _ROW * text.count("\n") > _MOST_FIELDS:
        raise UserError(f"{path} has {text.count(chr(10)):,} lines, which is more than a run writes")
    try:
        rows: list[dict[Any, Any]] = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file: {error}") from error
    return rows if damaged else [row for row in rows if None not in row and None not in row.values()]


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, header: bool = True) -> str:
    """Return rows as CSV; a row that lacks a column has an empty field there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_field(value: Any) -> str:
    """Write a value as a field: texts as they are, nothing for null, other values as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
