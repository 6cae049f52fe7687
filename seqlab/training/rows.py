"""Rows of the CSV files in a run folder, for readers that need neither torch nor Lightning."""

import csv
import io
from pathlib import Path
from typing import Any

from seqlab.bounded import read_bytes


def read_curves(path: Path) -> list[dict[str, Any]]:
    """Read the rows that are whole; the last one may have been cut by a crash."""
    if not path.exists():
        return []
    text = read_bytes(path).decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
    return [row for row in rows if None not in row and None not in row.values()]
