"""Results by class, of the run that validates best."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqlab.study.report.blocks import Field, Section, Table, Text
from seqlab.study.report.points import Point, worth
from seqlab.study.report.runs import Run, number
from seqlab.training.classes import class_table, noun_of, shortened, shown_classes

_RATIOS = ("precision", "recall", "f1")


def class_section(points: Sequence[Point], monitor: str) -> Section | None:
    """Make the table of precision, recall, F1 and support; ``None`` where no record has one."""
    runs = {run: (point, rows) for point in points for run in point.runs if (rows := _rows(run))}
    if not runs:
        return None
    best = max(runs, key=lambda run: worth([run]))
    point, rows = runs[best]
    shown = shown_classes(rows)
    noun = noun_of(rows[0])
    said = "Test split."
    if sum(len(point.runs) for point in points) > 1:
        at = "" if point.distance is None else f" at distance {point.distance:,}"
        said = f"Test split, of the run with the best validation {monitor}: {point.label}{at}, {best.folder.name}."
    if len(shown) < len(rows):
        said += f" {len(shown)} of {len(rows)} classes, those of least F1; all are in its results.json."
    made: list[tuple[Field, ...]] = []
    for row in shown:
        ratios = (number(row[name]) for name in _RATIOS)
        figures = ("-" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
        made.append((shortened(str(row.get(noun, ""))), *figures, f"{number(row['examples']) or 0:,.0f}"))
    return Section("Classes", 3, [Text(said), Table((noun, "precision", "recall", "F1", "support"), tuple(made))])


def _rows(run: Run) -> Sequence[Mapping[str, Any]]:
    """Return the table of classes in a record; empty where there is none, or its F1 are no numbers."""
    tables = {
        str(name): rows
        for name, rows in (run.record.get("tables") or {}).items()
        if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
    }
    found = class_table(tables)
    if found is None or any(row["f1"] is not None and number(row["f1"]) is None for row in found[1]):
        return ()
    return found[1]
