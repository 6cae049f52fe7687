"""Finished runs as a report reads them: settings, labels, scores."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

from seqlab.io.safe_io import is_plain_name
from seqlab.runs import run_folder
from seqlab.runs.scores import deciding_verdict, linear_score, recorded_bounds
from seqlab.study.intervals import Range

DISTANCE = "task.sequence_length"
LEARNING_RATE = "optimizer.lr"
REPLICATES = ("seed", "task.split_seed", "task.fold")
"""Settings that make repetitions of a run."""
_IGNORED = (
    "logger",
    "callbacks",
    "ckpt_path",
    "hydra",
    "task.name",
    "task.baseline",
    "task.eval_lengths",
    "task.eval_multiples",
    "task.eval_multiples",
    "trainer.progress",
    "trainer.profiler",
    "trainer.checkpoint_minutes",
    "trainer.accelerator",
    "trainer.threads",
    "data.workers",
    "data.eval_batch_size",
    "data.allow_change",
)
_CONTROLLED = (
    "task",
    "preprocessing",
    "data.batch_size",
    "data.tokens_per_batch",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_minutes",
    "trainer.early_stopping",
    "trainer.accumulate_grad_batches",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",
    "trainer.limit_test_batches",
    "trainer.overfit_batches",
)


def _is_below(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def is_controlled(key: str, *, distance: bool) -> bool:
    """Return whether runs must agree in a setting to be comparable; a distance may differ if the task has one."""
    return _is_below(key, _CONTROLLED) and key not in REPLICATES and not (distance and key == DISTANCE)


def incomparable_settings(runs: Sequence["Run"]) -> list[str]:
    """List the controlled settings in which the folders of some runs of one task differ, with their values.

    A setting that varies within a folder is left out: it is a subject of that sweep.
    """
    by_source: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        by_source["the monitored metric"][run.source].add(run.monitor)
        for key, value in run.settings.items():
            if is_controlled(key, distance=run.distance is not None):
                by_source[key][run.source].add(format_setting(value))
    found = []
    for key, sources in by_source.items():
        values = set().union(*sources.values())
        if len(values) > 1 and all(len(each) == 1 for each in sources.values()):
            found.append(f"{key} ({' and '.join(sorted(values, key=_numeric_order))})")
    return found


def _numeric_order(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def varied_settings(runs: Sequence["Run"]) -> list[str]:
    """List the settings that vary, in the order of the config, without those in the label's first word and the axes.

    An option of a plugin varies if it differs among runs of that plugin: an LSTM with 16 units beside an RNN with 32 is
    no variation of either.
    """
    seen: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for key, value in run.settings.items():
            if not _is_in_table(key, run):
                group = key.partition(".")[0]
                plugin = None if key == f"{group}.name" else run.settings.get(f"{group}.name")
                seen[key][plugin].add(format_setting(value))
    return [key for key, plugins in seen.items() if any(len(values) > 1 for values in plugins.values())]


def _is_in_table(key: str, run: "Run") -> bool:
    if key in REPLICATES or key == "cell.name" or (key == "model.name" and not run.uses_cell):
        return True
    return run.distance is not None and key in (DISTANCE, LEARNING_RATE)


def label_runs(runs: Sequence["Run"]) -> dict["Run", str]:
    """Label each run of a task by its cell or model and the settings that vary; repetitions share a label.

    Runs of a horizon search have the label of its row.
    """
    labels: dict[Run, str] = {}
    for horizon_label in dict.fromkeys(run.horizon_label for run in runs):
        group = [run for run in runs if run.horizon_label == horizon_label]
        keys = varied_settings(group)
        names = [key.rpartition(".")[2] for key in keys]
        for run in group:
            settings = [
                f"{key if names.count(name) > 1 or name == 'name' else name}={format_setting(run.settings[key])}"
                for key, name in zip(keys, names, strict=True)
                if key in run.settings
            ]
            first = horizon_label or run.plugin_name
            labels[run] = " ".join([first, *(each.replace(".name=", "=") for each in settings)])
    return labels


def format_setting(value: Any) -> str:
    """Format a setting's value as on the command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


_SHARES = ("accuracy", "balanced_accuracy", "calibration_error", "macro_f1", "roc_auc", "correct", "share_unknown")
_ERRORS = ("loss", "mse", "mae", "rmse", "bits_per_byte", "bits_per_token", "perplexity", "calibration_error")
_KNOWN_RANGES = {
    **dict.fromkeys(_SHARES, Range(0.0, 1.0)),
    **dict.fromkeys(("mse", "mae", "rmse", "bits_per_byte", "bits_per_token"), Range(0.0)),
    "perplexity": Range(1.0),
}
"""Ranges of metrics without one in the record: of older versions, and derived by tasks."""


@final
@dataclass(frozen=True, eq=False)
class Run:
    """A finished run with its ``results.json``."""

    folder: Path
    source: Path
    """Folder of its sweep, or its own: a setting that varies within a source does so on purpose."""
    record: Mapping[str, Any] = field(repr=False)
    horizon_label: str | None = None
    """Row of the horizon search that made it, if one did."""
    metric: str | None = None
    """Metric of the test split to report; ``None``: the monitored one."""

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Config as ``{"cell.hidden_size": 32, ...}``, without settings that do not change results."""
        found: dict[str, Any] = {}

        def flatten(node: Mapping[str, Any], prefix: str) -> None:
            for name, value in node.items():
                key = f"{prefix}{name}"
                if _is_below(key, _IGNORED) or (not self.uses_cell and _is_below(key, ("cell", "kernel"))):
                    continue
                if isinstance(value, Mapping):
                    flatten(value, f"{key}.")
                else:
                    found[key] = value

        flatten(self.record["config"], "")
        return found

    @property
    def uses_cell(self) -> bool:
        """Whether the model has a cell: only then a kernel is recorded."""
        return bool(self.record.get("kernel"))

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.record["config"]["task"]["name"])

    @property
    def plugin_name(self) -> str:
        """Name of the cell, or of a model without one."""
        return str(self.record["config"]["cell" if self.uses_cell else "model"]["name"])

    @property
    def monitor(self) -> str:
        """Metric that chose the checkpoint."""
        return str(self.record["best"]["monitor"])

    @property
    def maximises(self) -> bool:
        """Whether the monitored metric is better when larger."""
        return bool(self.record["best"].get("mode", "max") == "max")

    @property
    def reported(self) -> str:
        """Metric of the test split that is reported."""
        return self.metric or self.monitor

    @property
    def reports_larger(self) -> bool | None:
        """Whether the reported metric is better when larger; ``None`` if unknown."""
        if self.reported == self.monitor:
            return self.maximises
        return False if self.reported in _ERRORS else True if self.reported in _SHARES else None

    @property
    def seed(self) -> int:
        """Seed of weights, order and dropout."""
        return int(self.record["config"].get("seed", 0))

    @property
    def learning_rate(self) -> float | None:
        """Learning rate, if the optimiser has one."""
        return finite_number(self.settings.get(LEARNING_RATE))

    @property
    def distance(self) -> int | None:
        """Distance, if the task's difficulty is one."""
        means = self.record.get("sequence_length_means", "distance" if self.bounds else None)
        varies = self.lengths.get("protocol") == "curriculum"
        length = self.lengths.get("test") if varies else self.settings.get(DISTANCE)
        return int(length) if means == "distance" and isinstance(length, int) else None

    @property
    def lengths(self) -> Mapping[str, Any]:
        """Training lengths of a generated task and the length of its test split; empty if not recorded."""
        found = self.record.get("lengths")
        return found if isinstance(found, Mapping) else {}

    @property
    def is_curriculum_trial(self) -> bool:
        """Whether it is a run of a horizon search whose lengths grow: such runs have a section of their own."""
        return self.horizon_label is not None and self.lengths.get("protocol") == "curriculum"

    @cached_property
    def bounds(self) -> Mapping[str, Any]:
        """Reference values of the monitored metric: ``chance``, ``optimal``, ``solved``; empty if unknown."""
        return recorded_bounds(self.record)

    @property
    def tables(self) -> Mapping[str, Any]:
        """Tables of the record by name."""
        return self.record.get("tables") or {}

    def bound(self, name: str) -> float | None:
        """Return one of :attr:`bounds` as a number; ``None`` if another metric is reported."""
        return finite_number(self.bounds.get(name)) if self.reported == self.monitor else None

    def test_score(self, metric: str | None = None) -> float | None:
        """Return a test metric (the reported one); ``None`` if absent or not finite."""
        return finite_number(self.record["metrics"]["test"].get(metric or self.reported))

    def validation_score(self, metric: str | None = None) -> float | None:
        """Return a validation metric (the monitored one); ``None`` if absent or not finite."""
        if metric in (None, self.monitor):
            return finite_number(self.record["best"].get("valid"))
        return finite_number((self.record["metrics"].get("valid") or {}).get(metric))

    def metric_range(self, metric: str | None = None) -> Range:
        """Return the possible values of a metric (the reported one)."""
        name = metric or self.reported
        ends = (self.record.get("ranges") or {}).get(name)
        if isinstance(ends, list) and len(ends) == 2 and any(finite_number(end) is not None for end in ends):
            return Range(finite_number(ends[0]), finite_number(ends[1]))
        return _KNOWN_RANGES.get(name, Range())

    @property
    def baseline(self) -> float | None:
        """Reported metric of the best input-independent prediction: expected if known, else measured."""
        measured = (self.record.get("chance") or {}).get("test") or {}
        expected = self.bound("chance")
        return finite_number(measured.get(self.reported)) if expected is None else expected

    @property
    def linear(self) -> float | None:
        """Monitored test metric of the linear baseline, where there is one."""
        return linear_score(self.record, "test")

    @property
    def solved(self) -> bool:
        """Whether the run solves the task on the validation split, as in a horizon search."""
        return deciding_verdict(self.record) == "solved"

    @property
    def learned(self) -> bool:
        """Whether the validation score is better than the input-independent baseline by more than noise."""
        return deciding_verdict(self.record) in ("solved", "learning")

    def cost(self, name: str) -> float | None:
        """Return an entry of ``cost``."""
        return finite_number((self.record.get("cost") or {}).get(name))

    @property
    def command(self) -> str:
        """Command that repeats the run."""
        return str(self.record.get("command") or "")


def finite_number(value: Any) -> float | None:
    """Return a finite number as float, anything else as ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value == value and abs(value) != float("inf") else None


LARGEST = 1e100
"""Value beyond which neither a mean nor an axis can be computed."""


def check_record(record: Mapping[str, Any]) -> None:
    """Check that a record has what a report reads."""
    if record.get("schema") != run_folder.RESULTS_SCHEMA:
        raise ValueError(f"has schema {record.get('schema')}; this version reads {run_folder.RESULTS_SCHEMA}")
    for path in ("config.task.name", "config.model.name", "config.cell.name", "metrics.test", "best.monitor"):
        value: Any = record
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None or (path == "metrics.test" and not isinstance(value, Mapping)):
            raise ValueError(f"has no {path}")
        if path.endswith(".name") and not is_plain_name(value):  # names of figures' files contain it
            raise ValueError(f"has an invalid {path}")
    for key in ("cost", "chance", "tables", "versions", "ranges"):
        if not isinstance(record.get(key, {}), Mapping):
            raise ValueError(f"has {key} that is no object")
    for name, value in record["metrics"]["test"].items():
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise ValueError(f"has a metric {name[:80]!r} of {value:.3g}")


def environments(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Return every version, commit and processor that occurs among some runs."""
    seen: dict[str, dict[str, None]] = {}
    for run in runs:
        git, hardware = run.record.get("git") or {}, run.record.get("hardware") or {}
        facts = {**run.record.get("versions", {})}
        if isinstance(git, Mapping) and git.get("commit"):
            facts["commit"] = str(git["commit"])[:12] + (" with uncommitted changes" if git.get("dirty") else "")
        if isinstance(hardware, Mapping) and hardware.get("cpu"):
            gpus = "".join(f"; {name}" for name in hardware.get("gpus") or ())
            facts["hardware"] = f"{hardware['cpu']}, {hardware.get('cpu_threads')} threads{gpus}"
        for name, value in facts.items():
            seen.setdefault(name, {})[str(value)] = None
    return {name: list(values) for name, values in seen.items()}
