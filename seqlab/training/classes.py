"""Results by class: precision, recall, F1 and support."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

MOST = 20
"""Classes that are all shown; of more, the worst alone."""
WORST = 5
_COLUMNS = ("precision", "recall", "f1", "examples")


def class_rows(counts: Counter[tuple[str, str]], labels: Sequence[str], noun: str = "class") -> list[dict[str, Any]]:
    """Describe each class that occurs among true or predicted labels.

    Precision is hits / predicted, recall hits / true, F1 2 hits / (true + predicted), ``examples`` (the support) true;
    ``None`` where the denominator is 0.

    Args:
        counts: how often each pair of a true and a predicted label occurs.
        labels: the order of the classes.
        noun: the name of the first column.
    """
    true, predicted = Counter[str](), Counter[str]()
    for (label, answer), count in counts.items():
        true[label] += count
        predicted[answer] += count
    rows = []
    for label in labels:
        hits, both = counts[label, label], true[label] + predicted[label]
        if both:
            ratios = {"precision": _ratio(hits, predicted[label]), "recall": _ratio(hits, true[label])}
            rows.append({noun: label, "examples": true[label], **ratios, "f1": 2 * hits / both})
    return rows


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def class_table(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, Sequence[Mapping[str, Any]]] | None:
    """Find the table of classes among those of a record; ``None`` where the task has none."""
    for name, rows in tables.items():
        if rows and all(set(_COLUMNS) <= row.keys() for row in rows):
            return name, rows
    return None


def shown_classes(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return all classes, or the 5 of least F1 where there are more than 20."""
    if len(rows) <= MOST:
        return rows
    return sorted((row for row in rows if row["f1"] is not None), key=lambda row: row["f1"])[:WORST]


def noun_of(row: Mapping[str, Any]) -> str:
    """Return the name of the column that names the class."""
    return next((name for name in row if name not in _COLUMNS), "class")


def show_classes(rows: Sequence[Mapping[str, Any]], console: Console, rest: str) -> None:
    """Print a row for each class, or the classes of least F1 where there are more than 20.

    Args:
        rows: as :func:`class_rows` gives them, or a task's report.
        console: where to.
        rest: where the other rows are.
    """
    shown = shown_classes(rows)
    if len(shown) < len(rows):
        line = f"{len(shown)} of {len(rows)} classes, those of least F1; all are in {rest}:"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    noun = noun_of(rows[0])
    grid = Table()
    grid.add_column(Text(noun))
    for heading in ("precision", "recall", "F1", "support"):
        grid.add_column(heading, justify="right")
    for row in shown:
        values = ("-" if row[name] is None else f"{row[name]:.3f}" for name in _COLUMNS[:3])
        grid.add_row(Text(shortened(str(row[noun]))), *values, f"{row['examples']:,}")
    console.print(grid)


def shortened(label: str, most: int = 40) -> str:
    """Put a label into one line of what can be shown."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in label)
    return line if len(line) <= most else f"{line[: most - 3]}..."
