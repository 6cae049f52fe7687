"""What a run found: ``results.json`` and the table that ends a run."""

import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torchmetrics import MetricCollection

from seqlab._version import __version__
from seqlab.contracts import Task
from seqlab.contracts.task import is_solved
from seqlab.distributed.threads import Threads
from seqlab.io.formatting import format_metric
from seqlab.runs.run_folder import RESULTS_SCHEMA
from seqlab.runs.scores import Verdict, class_table, is_better, show_classes

SCHEMA = RESULTS_SCHEMA


@final
@dataclass(frozen=True)
class Result:
    """What :func:`seqlab.run` gives back.

    Attributes:
        folder: the run folder.
        metrics: of the test split, scored once, with the checkpoint that validation chose.
        chance: the same metrics for a predictor that ignores its input.
        verdict: ``solved``, ``learning`` or ``at chance``.
        monitor: the metric that chose the checkpoint.
        cost: seconds, throughput, parameters, memory.
        record: all of ``results.json``.
    """

    folder: Path
    metrics: Mapping[str, float]
    chance: Mapping[str, float]
    verdict: Verdict
    monitor: str
    cost: Mapping[str, Any]
    record: Mapping[str, Any] = field(repr=False)

    @property
    def objective(self) -> float:
        """The best validation value of the monitored metric: what a sweeper optimises; NaN where there is none."""
        value = self.record["best"]["valid"]
        return math.nan if value is None else float(value)


def judge(task: Task, metrics: Mapping[str, float], chance: Mapping[str, float], examples: int) -> Verdict:
    """Say whether a task was solved, is being learned, or scores no better than a predictor that ignores its input.

    Args:
        task: says what solves it.
        metrics: of a split.
        chance: the same metrics of the predictor that ignores its input.
        examples: of the split.
    """
    if is_solved(task, metrics):
        return "solved"
    score, blind = metrics[task.monitor], chance[task.monitor]
    better = is_better(score, blind, maximises=task.mode == "max", examples=examples)
    return "learning" if better else "at chance"


def further_tests(
    scores: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], statistics: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Make a table of the splits that were scored beside the test split, a row each; no table where there are none.

    Args:
        scores: metrics of the model, and of the predictor that ignores its input, by the split's name.
        statistics: what is known of each split.
    """
    rows = [
        {
            "split": name,
            "examples": statistics[name]["examples"],
            "longest": statistics[name]["length"]["longest"],
            **metrics,
            **{f"chance_{metric}": value for metric, value in chance.items()},
        }
        for name, (metrics, chance) in scores.items()
    ]
    return {"further_tests": rows} if rows else {}


def metric_ranges(collection: MetricCollection, names: Iterable[str]) -> dict[str, list[float | None]]:
    """Return the smallest and the largest value that each metric can take, as torchmetrics says; ``None`` is open.

    Args:
        collection: the task's metrics.
        names: of the values that are recorded, those that are derived included.
    """
    there = dict(collection.items())
    ends = ("plot_lower_bound", "plot_upper_bound")
    return {name: [getattr(there.get(name), end, None) for end in ends] for name in names}


def peak_memory() -> dict[str, int]:
    """Measure the largest memory so far, in bytes: of the process, and of the GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
    return peak


def versions() -> dict[str, str]:
    """Name what a result may depend on."""
    found = {"seqlab": __version__, "python": platform.python_version(), "platform": platform.platform()}
    found["torch"] = str(torch.__version__)  # with its build, which the registry's CUDA wheels leave out of their name
    for package in ("pytorch-lightning", "torchmetrics", "hydra-core", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> dict[str, Any]:
    """Name what a cost was measured on: the processor, its threads, and the GPUs where there are any."""
    found: dict[str, Any] = {"cpu": _processor(), "cpu_threads": os.cpu_count()}
    if torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return found


def compute_settings(model: nn.Module, threads: Threads) -> dict[str, Any]:
    """Say with how many threads a run was computed, and in which type of number its parameters are."""
    dtypes = sorted({str(each.dtype).removeprefix("torch.") for each in model.parameters()})
    default = str(torch.get_default_dtype()).removeprefix("torch.")
    return {"threads": threads.number, "threads_reason": threads.reason, "dtype": ", ".join(dtypes) or default}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def git_state() -> dict[str, Any] | None:
    """Name the commit of the working folder, and whether files differ from it; ``None`` outside a repository.

    Asked once by a process, whose code does not change either.
    """
    return _git_state(Path.cwd())


@cache
def _git_state(folder: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def show_results(result: Result, console: Console) -> None:
    """Print the tables that end a run: every metric with the baseline beside it, and results by class."""
    record = result.record
    table = Table(title=f"{record['title']}: {result.verdict}", title_justify="left")
    table.add_column("metric")
    table.add_column("test", justify="right")
    table.add_column("ignoring the input", justify="right", style="dim")
    for name, value in result.metrics.items():
        marked = f"[bold]{name}[/bold]" if name == result.monitor else name
        table.add_row(marked, format_metric(value), format_metric(result.chance[name]))
    console.print(table)
    if (classes := class_table(record["tables"])) is not None:
        name, rows = classes
        show_classes(rows, console, f"results.json, tables.{name}")
    for row in record["tables"].get("further_tests", []):
        values = ", ".join(f"{name} {row[name]:.4f} ({row[f'chance_{name}']:.4f})" for name in result.metrics)
        console.print(f"{row['split']}: {values}", highlight=False)
    cost = result.cost
    devices = f" on {cost['devices']} devices" if cost["devices"] > 1 else ""
    console.print(f"{cost['parameters']:,} parameters{devices}; {_spent(result)}", highlight=False)
    if record["kernel"]:
        console.print(f"kernel {record['kernel']['kernel']}: {record['kernel']['reason']}", highlight=False)
    if record["cost"]["compilations"]:
        compiled = f"{record['cost']['compilations']} graphs compiled in {record['cost']['compile_seconds']:.0f} s"
        console.print(compiled, highlight=False)
    for note in record["notes"]:
        console.print(note, highlight=False, style="dim")


def _spent(result: Result) -> str:
    cost = result.cost
    if not cost["batches"]:
        return f"prepared, not trained, in {cost['training_seconds']:.1f} s; {cost['wall_seconds']:.1f} s in all"
    best = result.record["best"]
    done = f"{cost['epochs']} epochs, the best was {best['epoch'] + 1}"
    if best["epoch"] >= cost["epochs"] or result.record["config"]["trainer"]["max_steps"] > 0:
        chosen = f"in epoch {best['epoch'] + 1}" if best["step"] is None else f"after {best['step']:,}"
        done = f"{cost['steps']:,} steps ({cost['epochs']} whole epochs), the best was {chosen}"
    return (
        f"{done}; "
        f"{cost['training_seconds']:.1f} s of training, {cost['wall_seconds']:.1f} s in all; "
        f"{cost['examples_per_second']:,.0f} examples/s, {cost['tokens_per_second']:,.0f} steps/s"
    )
