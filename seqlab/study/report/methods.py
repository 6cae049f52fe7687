"""Paragraphs on the method, for a paper: data, splits, seeds, budgets, search space, evaluation, versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqlab.study.report.document import Section, Text, format_number
from seqlab.study.report.runs import DISTANCE, LEARNING_RATE, Run, environments, format_setting

_BUDGET = ("max_epochs", "max_steps", "max_minutes", "early_stopping", "limit_train_batches", "accumulate_grad_batches")
_SEARCHED = ("cell", "model", "kernel", "preprocessing", "optimizer", "trainer", "data")
_MAX_VALUES = 12


def methods_section(title: str, runs: Sequence[Run], rows: Sequence[str]) -> Section:
    """Describe how the runs of one task were made, from their records: a paragraph for a paper.

    Args:
        title: of the group.
        runs: of the group.
        rows: their labels.
    """
    paragraphs = (_data(runs), _training(runs, rows), _evaluation(runs), _versions(runs))
    return Section(f"Methods: {title}", 2, [Text(text) for text in paragraphs])


def _values(runs: Sequence[Run], key: str) -> list[str]:
    """Return the values of a setting, numbers in order."""
    found = list({format_setting(run.settings[key]): run.settings[key] for run in runs if key in run.settings}.items())
    if all(isinstance(value, int | float) for _, value in found):
        found.sort(key=lambda pair: pair[1])
    shown = [text for text, value in found if value not in (None, -1)]  # -1: no limit
    return shown if len(shown) <= _MAX_VALUES else [*shown[: _MAX_VALUES - 1], f"... ({len(shown)} values)"]


def _setting(runs: Sequence[Run], key: str) -> str:
    return f"{key} {', '.join(values)}" if (values := _values(runs, key)) else ""


def _data(runs: Sequence[Run]) -> str:
    task = runs[0].task
    keys = dict.fromkeys(key for run in runs for key in run.settings if key.startswith("task."))
    options = [_setting(runs, key) for key in keys if key not in ("task.name", "task.split_seed", "task.fold")]
    text = f"Task {task} ({'; '.join(filter(None, options))})." if any(options) else f"Task {task}."
    sizes = []
    for split in ("train", "valid", "test"):
        facts = [_mapping(_mapping(run.record, "data"), split).get("examples") for run in runs]
        counts = sorted({count for count in facts if isinstance(count, int)})
        if counts:
            ends = format_number(counts[0]) + (f" to {format_number(counts[-1])}" if len(counts) > 1 else "")
            sizes.append(f"{ends} {split}")
    text += f" Sequences: {', '.join(sizes)}." if sizes else ""
    splits = [_setting(runs, f"task.{name}") for name in ("split_seed", "fold")]
    splits = [each.removeprefix("task.").replace("split_seed", "split seed") for each in splits if each]
    steps = [_setting(runs, key) for key in dict.fromkeys(key for run in runs for key in run.settings) if _is_text(key)]
    text += f" Splits: {'; '.join(splits)}." if splits else ""
    return text + (f" Preprocessing: {'; '.join(filter(None, steps))}." if any(steps) else "")


def _is_text(key: str) -> bool:
    return key.startswith("preprocessing.")


def _training(runs: Sequence[Run], rows: Sequence[str]) -> str:
    budget = [_setting(runs, f"trainer.{name}") for name in _BUDGET]
    rest = [_setting(runs, key) for key in ("optimizer.name", "data.batch_size", "data.tokens_per_batch")]
    seeds = ", ".join(_values([*runs], "seed")) or ", ".join(sorted({str(run.seed) for run in runs}))
    text = f"Rows: {'; '.join(dict.fromkeys(rows))}. Seeds: {seeds}."
    text += f" Budget of a run: {'; '.join(each.removeprefix('trainer.') for each in budget if each)}."
    text += f" {'; '.join(filter(None, rest))}." if any(rest) else ""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key.partition(".")[0] in _SEARCHED)
    searched = [_setting(runs, key) for key in keys if len(_values(runs, key)) > 1 and not _is_text(key)]
    if not _values(runs, LEARNING_RATE)[1:]:
        searched.append(f"{LEARNING_RATE} was not searched: {', '.join(_values(runs, LEARNING_RATE)) or 'none'}")
    return text + f" Search space: {'; '.join(searched)}; {len(runs):,} run{'s' * (len(runs) > 1)}."


def _evaluation(runs: Sequence[Run]) -> str:
    run = runs[0]
    how = "highest" if run.maximises else "lowest"
    text = (
        f"Weights are those of the epoch with the {how} validation {run.monitor}; the test split was scored once, with"
        f" them, and chose nothing. Reported: test {run.reported}, mean and standard deviation over seeds, with the"
        " 95 % interval of Student's t for the mean, clipped to the range of the metric. Bold: the interval lies beyond"
        " that of every other row."
    )
    if run.distance is not None:
        distances = sorted({distance for each in runs if (distance := each.distance) is not None})
        text += (
            f" Distances ({DISTANCE}): {', '.join(f'{each:,}' for each in distances)}; of several learning rates each"
            " row has the one with the best mean validation score. Horizon: the largest distance that at least 2/3 of"
            " the seeds solve in validation."
        )
    return text


def _versions(runs: Sequence[Run]) -> str:
    known = environments(runs)
    facts = "; ".join(f"{name} {' and '.join(values)}" for name, values in known.items())
    return f"Versions: {facts}."


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}
