"""Scores: verdicts against baseline and optimum, and results by class."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from seqlab.contracts import Task  # which imports torch, and readers of run folders do not want it

Verdict = Literal["solved", "learning", "at chance"]

_MAX_CLASSES = 30
"""Number of classes to show; of more, the worst."""
_COLUMNS = ("precision", "recall", "f1", "examples")


def judge(task: "Task", metrics: Mapping[str, float], chance: Mapping[str, float], examples: int) -> Verdict:
    """Return whether a task is solved, is being learned, or scores no better than the input-independent baseline."""
    from seqlab.contracts.task import is_solved  # which imports torch, as :class:`Task` does

    if is_solved(task, metrics):
        return "solved"
    score, baseline = metrics[task.monitor], chance[task.monitor]
    better = is_better(score, baseline, maximises=task.mode == "max", examples=examples)
    return "learning" if better else "at chance"


def is_better(score: float, baseline: float, *, maximises: bool, examples: int) -> bool:
    """Return whether a score is better than the input-independent baseline by more than noise.

    For a metric between 0 and 1 to be maximised, noise is three standard errors of a proportion of ``examples``; for
    any other metric it is 2 % of the baseline.
    """
    if maximises and 0 <= baseline <= 1:
        margin = 3 * math.sqrt(max(baseline * (1 - baseline), 1 / max(examples, 1)) / max(examples, 1))
    else:
        margin = 0.02 * abs(baseline)
    return (score - baseline if maximises else baseline - score) > margin


def deciding_verdict(record: Mapping[str, Any]) -> str:
    """Return the verdict on the validation split, so that no decision depends on the test split.

    It is computed from the best validation score and the task's bounds where both are recorded; else it is
    ``best.verdict``, the task's own. A record of an older version without either has only that of the test split.
    """
    best, bounds = record["best"], recorded_bounds(record)
    score, baseline, solved = best.get("valid"), bounds.get("chance"), bounds.get("solved")
    numbers = (int, float)
    if not (isinstance(score, numbers) and isinstance(baseline, numbers) and isinstance(solved, numbers)):
        return str(best["verdict"] if best.get("verdict") in get_args(Verdict) else record.get("verdict"))
    maximises = best.get("mode", "max") == "max"
    if score >= solved if maximises else score <= solved:
        return "solved"
    examples = ((record.get("data") or {}).get("valid") or {}).get("examples") or 1
    return "learning" if is_better(score, baseline, maximises=maximises, examples=examples) else "at chance"


def recorded_bounds(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the reference values ``chance``, ``optimal`` and ``solved`` of the monitored metric; empty if unknown."""
    tables = record.get("tables")
    rows = tables.get("bounds") if isinstance(tables, Mapping) else None
    return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], Mapping) else {}


def class_rows(counts: Counter[tuple[str, str]], labels: Sequence[str], noun: str = "class") -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support (``examples``) of each class among the true or predicted labels.

    ``counts`` are of pairs of a true and a predicted label; ``None`` stands for a ratio whose denominator is 0.
    """
    true, predicted = Counter[str](), Counter[str]()
    for (label, prediction), count in counts.items():
        true[label] += count
        predicted[prediction] += count
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
    """Return name and rows of the table of classes in ``tables`` of a record; ``None`` where there is none."""
    for name, rows in tables.items():
        if rows and all(set(_COLUMNS) <= row.keys() for row in rows):
            return name, rows
    return None


def classes_to_show(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return all classes in their order, or the 30 of lowest F1, the lowest first, where there are more."""
    if len(rows) <= _MAX_CLASSES:
        return rows
    return sorted((row for row in rows if row["f1"] is not None), key=lambda row: row["f1"])[:_MAX_CLASSES]


def rarest_class(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the row of the class with the fewest test examples, of several that of lowest recall."""
    known = [row for row in rows if isinstance(row["examples"], int) and isinstance(row["recall"], float)]
    return min(known, key=lambda row: (row["examples"], row["recall"]), default=None)


def linear_score(record: Mapping[str, Any], split: str) -> float | None:
    """Return the monitored metric of the linear baseline on a split; ``None`` without one."""
    linear = record.get("linear")
    scores = linear.get(split) if isinstance(linear, Mapping) else None
    value = scores.get(record["best"]["monitor"]) if isinstance(scores, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def linear_verdict(record: Mapping[str, Any]) -> str | None:
    """Return a sentence if the linear baseline has a better test score than the model; else ``None``."""
    from seqlab.io.formatting import format_metric

    best, name = record["best"], record["best"]["monitor"]
    theirs, ours = linear_score(record, "test"), record["metrics"]["test"].get(name)
    if theirs is None or not isinstance(ours, float):
        return None
    if not (theirs > ours if best["mode"] == "max" else theirs < ours):
        return None
    scores = f"test {name} {format_metric(theirs)}, this model {format_metric(ours)}"
    model = record["linear"].get("model")
    return f"the linear baseline (model={model['name'] if isinstance(model, Mapping) else '?'}) scores better: {scores}"


def class_column(row: Mapping[str, Any]) -> str:
    """Return the name of the column that names the class."""
    return next((name for name in row if name not in _COLUMNS), "class")


def shorten_label(label: str) -> str:
    """Return a label as one printable line."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in label)
    return line if len(line) <= 40 else f"{line[:37]}..."
