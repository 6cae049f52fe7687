"""Finished runs as a report reads them: settings, labels, scores."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from seqlab.io.safe_io import is_plain_name
from seqlab.runs import run_folder
from seqlab.runs.scores import deciding_verdict
from seqlab.study.intervals import Range

if TYPE_CHECKING:
    pass

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


_SHARE = Range(0.0, 1.0)
KNOWN_RANGES = {
    **dict.fromkeys(
        ("accuracy", "balanced_accuracy", "calibration_error", "macro_f1", "roc_auc", "correct", "share_unknown"),
        _SHARE,
    ),
    **dict.fromkeys(("mse", "mae", "rmse", "bits_per_byte", "bits_per_token"), Range(0.0)),
    "perplexity": Range(1.0),
}
"""Of metrics whose range a record does not have: those of older versions, and those that a task derives."""


@final
@dataclass(frozen=True, eq=False)
class Run:
    """A finished run whose record could be read.

    Attributes:
        folder: the run's.
        source: the sweep's folder, or the run's own: within one source a setting that differs was varied on purpose.
        record: ``results.json``.
        horizon_label: what the horizon search calls it, if one made it.
    """

    folder: Path
    source: Path
    record: Mapping[str, Any] = field(repr=False)
    horizon_label: str | None = None

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Its config, flat: ``{"cell.hidden_size": 32, ...}``."""
        return flat(self.record["config"], uses_cell=self.uses_cell)

    @property
    def uses_cell(self) -> bool:
        """Whether its model has a cell: only then a kernel is reported."""
        return bool(self.record.get("kernel"))

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.record["config"]["task"]["name"])

    @property
    def head(self) -> str:
        """What was compared: the cell's name, or the model's where it has no cell."""
        return str(self.record["config"]["cell" if self.uses_cell else "model"]["name"])

    @property
    def monitor(self) -> str:
        """The metric that chose the checkpoint."""
        return str(self.record["best"]["monitor"])

    @property
    def maximises(self) -> bool:
        """Whether the monitored metric is better when larger."""
        return bool(self.record["best"].get("mode", "max") == "max")

    @property
    def seed(self) -> int:
        """Of weights, order and dropout."""
        return int(self.record["config"].get("seed", 0))

    @property
    def rate(self) -> float | None:
        """The learning rate, where the optimiser has one."""
        return number(self.settings.get("optimizer.lr"))

    @property
    def distance(self) -> int | None:
        """The distance, of a task whose difficulty is one."""
        means = self.record.get("sequence_length_means", "distance" if self.bounds else None)
        length = self.settings.get("task.sequence_length")
        return int(length) if means == "distance" and isinstance(length, int) else None

    @cached_property
    def bounds(self) -> Mapping[str, Any]:
        """What the monitored metric is worth: ``chance``, ``optimal``, ``solved``; empty where it is unsaid."""
        rows = (self.record.get("tables") or {}).get("bounds") or []
        return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], Mapping) else {}

    def score(self, metric: str | None = None) -> float | None:
        """Give a test metric, the monitored one if none is named; ``None`` if it is absent or no number."""
        return number(self.record["metrics"]["test"].get(metric or self.monitor))

    @property
    def valid(self) -> float | None:
        """The monitored metric on the validation split: whatever chooses among runs reads it."""
        return number(self.record["best"].get("valid"))

    def validation(self, metric: str | None = None) -> float | None:
        """Return a validation metric, the monitored one if none is named; ``None`` if it is absent or no number."""
        if metric in (None, self.monitor):
            return self.valid
        return number((self.record["metrics"].get("valid") or {}).get(metric))

    def range(self, metric: str | None = None) -> Range:
        """Return the values that a metric can take, the monitored one if none is named."""
        name = metric or self.monitor
        ends = (self.record.get("ranges") or {}).get(name)
        if isinstance(ends, list) and len(ends) == 2 and any(number(end) is not None for end in ends):
            return Range(number(ends[0]), number(ends[1]))
        return KNOWN_RANGES.get(name, Range())

    @property
    def chance(self) -> float | None:
        """The monitored metric of the best predictor that ignores its input: expected where known, else measured."""
        measured = (self.record.get("chance") or {}).get("test") or {}
        expected = number(self.bounds.get("chance"))
        return number(measured.get(self.monitor)) if expected is None else expected

    @property
    def solved(self) -> bool:
        """Whether the task counts as solved: on the validation split, as in a horizon search."""
        return deciding_verdict(self.record) == "solved"

    @property
    def learned(self) -> bool:
        """Whether the validation score is better than the input-independent baseline by more than noise."""
        return deciding_verdict(self.record) in ("solved", "learning")

    def cost(self, name: str) -> float | None:
        """Give a figure of its cost."""
        return number((self.record.get("cost") or {}).get(name))

    @property
    def command(self) -> str:
        """What was typed, or would do the same."""
        return str(self.record.get("command") or "")


def number(value: Any) -> float | None:
    """Give a finite number, or ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value == value and abs(value) != float("inf") else None


_LARGEST = 1e100


def check(record: Mapping[str, Any]) -> None:
    """Check that a record has what a report reads.

    Raises:
        ValueError: it has not; the message names the key.
    """
    if record.get("schema") != run_folder.RESULTS_SCHEMA:
        raise ValueError(f"has schema {record.get('schema')}; this version reads {run_folder.RESULTS_SCHEMA}")
    for path in ("config.task.name", "config.model.name", "config.cell.name", "metrics.test", "best.monitor"):
        value: Any = record
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if (
            path.endswith(".name") and value is not None and not is_plain_name(value)
        ):  # pictures' files are called by it
            raise ValueError(f"has a {path} that is no name")
        if value is None or (path == "metrics.test" and not isinstance(value, Mapping)):
            raise ValueError(f"has no {path}")
    for key in ("cost", "chance", "tables", "versions", "ranges"):
        if not isinstance(record.get(key, {}), Mapping):
            raise ValueError(f"has {key} that is no object")
    for name, value in record["metrics"]["test"].items():
        if isinstance(value, int | float) and abs(value) > _LARGEST:  # of which neither mean nor axis can be computed
            raise ValueError(f"has a metric {name[:80]!r} of {value:.3g}")


def versions(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Name what the runs were made with: each version, commit and processor that occurs."""
    seen: dict[str, dict[str, None]] = {}
    for run in runs:
        git, hardware = run.record.get("git") or {}, run.record.get("hardware") or {}
        facts = {**run.record.get("versions", {})}
        if isinstance(git, Mapping) and git.get("commit"):
            facts["commit"] = str(git["commit"])[:12] + (
                " and changes that are in no commit" if git.get("dirty") else ""
            )
        if isinstance(hardware, Mapping) and hardware.get("cpu"):
            gpus = "".join(f"; {name}" for name in hardware.get("gpus") or ())
            facts["hardware"] = f"{hardware['cpu']}, {hardware.get('cpu_threads')} threads{gpus}"
        for name, value in facts.items():
            seen.setdefault(name, {})[str(value)] = None
    return {name: list(values) for name, values in seen.items()}
