"""Warnings of a report: what makes a comparison of its rows unfair."""

import re
from collections.abc import Mapping, Sequence
from statistics import median

from seqlab.study.report.document import format_number
from seqlab.study.report.figures import Point
from seqlab.study.report.runs import LEARNING_RATE, Run, finite_number, format_setting

_BUDGET = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_minutes",
    "trainer.early_stopping",
    "trainer.limit_train_batches",
)
_FEW_EPOCHS = 5
"""Epochs below which a report warns."""
_MAX_LISTED = 4


def cautions(labels: Mapping[Run, str], points: Sequence[Point]) -> list[str]:
    """Return a sentence for each thing that makes a comparison of the rows unfair, or their scores unsure.

    Args:
        labels: of all runs of a group.
        points: those of them that are compared.
    """
    rows: dict[str, list[Run]] = {}
    for run, label in labels.items():
        rows.setdefault(_without_rate(label), []).append(run)
    found = [*_seeds(points), *_epochs(points)]
    if len(rows) > 1:
        found += [*_rates(rows), *_budgets(rows), *_idle(points)]
    return found


def _without_rate(label: str) -> str:
    return re.sub(rf" (?:{re.escape(LEARNING_RATE)}|lr)=\S+", "", label)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _seeds(points: Sequence[Point]) -> list[str]:
    single = sum(len(point.runs) == 1 for point in points)
    counts = sorted({len(point.runs) for point in points})
    if single:
        which = "Every row has" if single == len(points) else f"{single:,} of {len(points):,} rows have"
        return [f"{which} a single seed: run more seeds to tell settings apart."]
    if len(counts) > 1:
        return [f"Rows have unequal numbers of seeds, {counts[0]} to {counts[-1]}."]
    return []


def _rates(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """Compare how many learning rates were tried for each row."""
    tried = {
        label: {rate for run in runs if (rate := run.learning_rate) is not None and run.cost("steps") != 0}
        for label, runs in rows.items()
    }  # a model that is fitted without steps, such as model=bow, has none
    counts = {label: len(rates) for label, rates in tried.items() if rates}
    if len(counts) < 2:
        return []
    if set(counts.values()) == {1}:
        every = sorted(set.union(*tried.values()))
        which = format_number(every[0]) if len(every) == 1 else "each its own"
        return [
            f"One learning rate ({which}) for each row: another may suit some of them better; sweep {LEARNING_RATE}."
        ]
    if len(set(counts.values())) > 1:
        text = _listed([f"{label} {count}" for label, count in counts.items()])
        return [f"Unequal search: the number of learning rates tried differs between rows ({text})."]
    return []


def _budgets(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """Compare the training budgets of the rows, and the number of settings of each that were tried."""
    found = []
    for key in _BUDGET:
        by_row = {frozenset(format_setting(run.settings.get(key)) for run in runs) for runs in rows.values()}
        if len(by_row) > 1:
            values = sorted(set().union(*by_row))
            found.append(f"Unequal budgets: {key} differs between rows ({_listed(values)}).")
    return found


def _epochs(points: Sequence[Point]) -> list[str]:
    """Name the rows that trained for few epochs or whose best epoch is the last."""
    few, rising = [], []
    for point in points:
        name = point.label if point.distance is None else f"{point.label} at {point.distance:,}"
        pairs = [(_epoch(run, "best", "epoch"), _epoch(run, "cost", "epochs")) for run in point.runs if not run.solved]
        known = [(best + 1, trained) for best, trained in pairs if best is not None and trained]
        if known and median(trained for _, trained in known) < _FEW_EPOCHS:
            few.append(name)
        elif known and 2 * sum(best >= trained for best, trained in known) > len(known):
            rising.append(name)
    lines = []
    if few:
        which = "every row" if len(few) == len(points) else _listed(few)
        lines.append(f"Fewer than {_FEW_EPOCHS} epochs of training: {which}.")
    if rising:
        which = "every row" if len(rising) == len(points) else _listed(rising)
        lines.append(f"Validation is best in the last epoch, so that the budget limits the score: {which}.")
    return lines


def _epoch(run: Run, part: str, name: str) -> float | None:
    facts = run.record.get(part)
    return finite_number(facts.get(name)) if isinstance(facts, Mapping) else None


def _idle(points: Sequence[Point]) -> list[str]:
    """Name the rows that learned nothing beside others that did."""
    learned = {point.label for point in points if point.learned}
    idle = [label for label in dict.fromkeys(point.label for point in points) if label not in learned]
    if not learned or not idle:
        return []
    text = "a gain over them may be one over a failed training"
    return [f"No better than the input-independent baseline: {_listed(idle)}; {text}."]
