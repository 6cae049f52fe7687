"""The CSV files of a run folder as numbers."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlab.errors import UserError, one_line
from seqlab.io.csv_files import read_csv
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import read_bytes
from seqlab.study.report.reading import Fault
from seqlab.study.report.runs import Run

_LARGEST = 1e100
NEEDED = {
    "metrics.csv": (("step",), ()),
    "gradient_flow.csv": (("step", "layer", "distance"), ("direction", "state", "norm")),
    "saturation.csv": (("step", "layer"), ("direction", "gate", "low", "high")),
}
"""Of each file the columns that must hold numbers in every row, and those that must be there."""


def read_all(runs: Sequence[Run], faults: list[Fault]) -> dict[str, dict[Run, Sequence[Mapping[str, Any]]]]:
    """Read each of the files of each run; a damaged one is added to the faults and read as absent."""
    found: dict[str, dict[Run, Sequence[Mapping[str, Any]]]] = {name: {} for name in NEEDED}
    for run in runs:
        for name, (numbers, columns) in NEEDED.items():
            path = run.folder / "curves" / name
            try:
                found[name][run] = _read(path, numbers, columns)
            except (UserError, ValueError, OSError, csv.Error) as error:
                faults.append(Fault("damaged", relative_path(path), f"it is left out: {one_line(error)}"))
    return found


def _read(path: Path, numbers: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    rows = read_csv(path)
    if not rows and path.exists() and path.stat().st_size and not _is_head(path, (*numbers, *columns)):
        raise ValueError("it has no whole row")
    if rows and (lacking := [name for name in (*numbers, *columns) if name not in rows[0]]):
        raise ValueError(f"it has no column {lacking[0]}")
    made = []
    for place, row in enumerate(rows, start=2):
        made.append({key: _value(text) for key, text in row.items() if text != ""})
        if wrong := next((name for name in numbers if not isinstance(made[-1].get(name), float)), None):
            raise ValueError(f"line {place:,}: {wrong} is {row[wrong]!r}, where a number must be")
    return made


def _is_head(path: Path, columns: Sequence[str]) -> bool:
    """Return whether a file is a head without rows: of a cell without gates, or of a run that was stopped early."""
    head = read_bytes(path).decode("utf-8", "replace").partition("\n")[0]
    return head.isprintable() and set(columns) <= set(next(csv.reader([head]), []))


def _value(text: str) -> float | str:
    """Give a field as a number where it can be drawn, and as text where it cannot."""
    try:
        value = float(text)
    except ValueError:
        return text
    return value if abs(value) < _LARGEST else text  # beyond, axes cannot be computed; NaN is no number either
