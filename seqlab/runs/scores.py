"""Scores: verdicts against the baseline and the optimum, and results by class."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

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


def class_column(row: Mapping[str, Any]) -> str:
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
    noun = class_column(rows[0])
    grid = Table()
    grid.add_column(Text(noun))
    for heading in ("precision", "recall", "F1", "support"):
        grid.add_column(heading, justify="right")
    for row in shown:
        values = ("-" if row[name] is None else f"{row[name]:.3f}" for name in _COLUMNS[:3])
        grid.add_row(Text(shorten_label(str(row[noun]))), *values, f"{row['examples']:,}")
    console.print(grid)


def shorten_label(label: str, most: int = 40) -> str:
    """Put a label into one line of what can be shown."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in label)
    return line if len(line) <= most else f"{line[: most - 3]}..."


Verdict = Literal["solved", "learning", "at chance"]


def is_better(score: float, baseline: float, *, maximises: bool, examples: int) -> bool:
    """Return whether a score is better than the input-independent baseline by more than noise.

    That is three standard errors of a share measured on ``examples`` for a metric between 0 and 1 that is to be large,
    and 2 % of the baseline for any other.

    Args:
        score: of a run.
        baseline: of the predictor that ignores its input.
        maximises: whether the metric is better when larger.
        examples: that the score was measured on.
    """
    if maximises and 0 <= baseline <= 1:
        margin = 3 * math.sqrt(max(baseline * (1 - baseline), 1 / max(examples, 1)) / max(examples, 1))
    else:
        margin = 0.02 * abs(baseline)
    return (score - baseline if maximises else baseline - score) > margin


def deciding_verdict(record: Mapping[str, Any]) -> str:
    """Return the verdict that decides: the one on the validation split, so that no choice reads the test split.

    It follows from the best validation score and the task's bounds where both are recorded; else it is
    ``best.verdict``, the task's own. A record of an older version without either has the test split's alone.

    Args:
        record: ``results.json``.
    """
    best, bounds = record["best"], _bounds(record)
    score, chance, solved = best.get("valid"), bounds.get("chance"), bounds.get("solved")
    numbers = (int, float)
    if not (isinstance(score, numbers) and isinstance(chance, numbers) and isinstance(solved, numbers)):
        return str(best["verdict"] if best.get("verdict") in get_args(Verdict) else record.get("verdict"))
    maximises = best.get("mode", "max") == "max"
    if score >= solved if maximises else score <= solved:
        return "solved"
    examples = ((record.get("data") or {}).get("valid") or {}).get("examples") or 1
    return "learning" if is_better(score, chance, maximises=maximises, examples=examples) else "at chance"


def _bounds(record: Mapping[str, Any]) -> Mapping[str, Any]:
    tables = record.get("tables")
    rows = tables.get("bounds") if isinstance(tables, Mapping) else None
    return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], Mapping) else {}
