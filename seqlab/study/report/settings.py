"""What a run was asked for: settings, those that make runs incomparable, and labels of what was varied.

Four kinds of settings are told apart:

- *ignored*: where curves go, how often is saved, threads: they change no result.
- *replicates*: ``seed`` and ``task.split_seed``: runs that differ in them alone are repetitions.
- *guarded*: the task's options, the budget and the preprocessing: runs that differ in them measure different things.
  Where one sweep varies such a setting, it is what the sweep is about, and goes into the label; where it only differs
  between folders, the runs are not put into one table.
- *all others* (cell, model, optimiser, ...): what is compared; those that vary go into the label.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqlab.study.report.runs import Run

DISTANCE = "task.sequence_length"
RATE = "optimizer.lr"
REPLICATES = ("seed", "task.split_seed")
_IGNORED = (
    "logger",
    "callbacks",
    "ckpt_path",
    "hydra",
    "task.name",
    "task.eval_lengths",
    "trainer.progress",
    "trainer.profiler",
    "trainer.checkpoint_minutes",
    "trainer.accelerator",
    "trainer.threads",
    "data.workers",
    "data.eval_batch_size",
    "data.allow_change",
)
_GUARDED = (
    "task",
    "preprocessing",
    "data.batch_size",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.early_stopping",
    "trainer.accumulate_grad_batches",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",
    "trainer.limit_test_batches",
    "trainer.overfit_batches",
)


def _is_of(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def flat(config: Mapping[str, Any], *, uses_cell: bool) -> dict[str, Any]:
    """Flatten a config into ``{"cell.hidden_size": 32}``, without what is ignored; lists and null stay values.

    Args:
        config: a run's.
        uses_cell: whether cell and kernel mean anything to its model.
    """
    found: dict[str, Any] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if _is_of(key, _IGNORED) or (not uses_cell and _is_of(key, ("cell", "kernel"))):
                continue
            if isinstance(value, Mapping):
                walk(value, f"{key}.")
            else:
                found[key] = value

    walk(config, "")
    return found


def is_guarded(key: str, *, distance: bool) -> bool:
    """Whether runs that differ in a setting measure different things.

    Args:
        key: the setting's.
        distance: whether the task's difficulty is a distance, which then is the axis of the figure.
    """
    return _is_of(key, _GUARDED) and key not in REPLICATES and not (distance and key == DISTANCE)


def differences(runs: Sequence["Run"]) -> list[str]:
    """Name the guarded settings that differ between the folders of some runs of one task, with their values.

    A setting that some folder varies by itself does not count: it tells the rows of that sweep apart.
    """
    by_source: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        by_source["the monitored metric"][run.source].add(run.monitor)
        for key, value in run.settings.items():
            if is_guarded(key, distance=run.distance is not None):
                by_source[key][run.source].add(show(value))
    found = []
    for key, sources in by_source.items():
        fixed = all(len(values) == 1 for values in sources.values())
        if fixed and len(every := set().union(*sources.values())) > 1:
            found.append(f"{key} ({' and '.join(sorted(every, key=_natural))})")
    return found


def _natural(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def varying(runs: Sequence["Run"]) -> list[str]:
    """List the settings that were varied, in the order of the config, but those that the head and the axes show.

    An option of a plugin varies if it differs among runs of that plugin: that an LSTM has 16 units and the RNN beside
    it 32 is no variation of either.
    """
    seen: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for key, value in run.settings.items():
            if not _is_shown(key, run):
                group = key.partition(".")[0]
                plugin = None if key == f"{group}.name" else run.settings.get(f"{group}.name")
                seen[key][plugin].add(show(value))
    return [key for key, plugins in seen.items() if any(len(values) > 1 for values in plugins.values())]


def _is_shown(key: str, run: "Run") -> bool:
    if key in REPLICATES or key == "cell.name" or (key == "model.name" and not run.uses_cell):
        return True
    return run.distance is not None and key in (DISTANCE, RATE)


def labels(runs: Sequence["Run"]) -> dict["Run", str]:
    """Name what each run of a task is a repetition of: its cell, or its model, and what else varies.

    What a horizon search made bears the name that the search gave it.
    """
    named: dict[Run, str] = {}
    for label in dict.fromkeys(run.horizon_label for run in runs):
        group = [run for run in runs if run.horizon_label == label]
        keys = varying(group)
        short = [key.rpartition(".")[2] for key in keys]
        for run in group:
            words = [
                f"{key if short.count(brief) > 1 or brief == 'name' else brief}={show(run.settings[key])}"
                for key, brief in zip(keys, short, strict=True)
                if key in run.settings
            ]
            named[run] = " ".join([label or run.head, *(word.replace(".name=", "=") for word in words)])
    return named


def show(value: Any) -> str:
    """Write a setting's value as it would be typed."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
