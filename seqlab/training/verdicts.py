"""Verdicts on a run's scores, and which of them decides; imports no torch."""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

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
