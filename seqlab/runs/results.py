"""``results.json``: reading, writing, and the tables that a run prints at its end."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.table import Table

from seqlab._version import __version__
from seqlab.errors import UserError
from seqlab.io.atomic import write_json
from seqlab.io.formatting import format_metric
from seqlab.runs.run_folder import RESULTS, RESULTS_SCHEMA, read_json
from seqlab.runs.scores import Verdict, class_table, show_classes

if TYPE_CHECKING:
    from torchmetrics import MetricCollection  # which takes seconds to import, and readers of results do not want it


@final
@dataclass(frozen=True)
class Result:
    """Result of :func:`seqlab.run`.

    Attributes:
        folder: the run folder.
        metrics: of the test split, scored once, with the checkpoint that validation chose.
        chance: the same metrics of the input-independent baseline.
        verdict: ``solved``, ``learning`` or ``at chance`` (no better than the baseline).
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


def write_results(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``results.json``, and return it with its schema."""
    record = {"schema": RESULTS_SCHEMA, **record}
    write_json(folder / RESULTS, record)
    return record


def read_results(folder: Path) -> dict[str, Any]:
    """Read ``results.json`` of a finished run.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    path = folder / RESULTS
    record = read_json(path)
    if (found := record.get("schema")) != RESULTS_SCHEMA:
        line = f"{path} has schema {str(found)[:40]}; this is seqlab {__version__}, which reads {RESULTS_SCHEMA}"
        newer = isinstance(found, int) and found > RESULTS_SCHEMA
        raise UserError(f"{line}: pip install -U seqlab" if newer else line)
    if not isinstance(record.get("config"), dict) or not isinstance(record.get("metrics"), dict):
        raise UserError(f"{path} holds no config or no metrics")
    for kind in ("task", "model", "optimizer", "trainer", "data"):
        if not isinstance(record["config"].get(kind), dict):
            raise UserError(f"{path} has no config of {kind}")
    metrics = record["metrics"].values()
    if not all(isinstance(each, dict) and all(map(_is_metric, each.values())) for each in metrics):
        raise UserError(f"{path} has metrics that are no numbers")
    if not isinstance(record.get("versions") or {}, dict):
        raise UserError(f"{path} has versions that are no object")
    return record


def _is_metric(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def further_tests(
    scores: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], statistics: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return a table with a row for each extra test split; no table where there are none.

    Args:
        scores: metrics of the model and of the baseline, by split.
        statistics: of each split.
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


def metric_ranges(collection: "MetricCollection", names: Iterable[str]) -> dict[str, list[float | None]]:
    """Return the smallest and the largest value of each metric, as torchmetrics has them; ``None`` is unbounded.

    Args:
        collection: the task's metrics.
        names: of the recorded values, including those computed from others.
    """
    metrics = dict(collection.items())
    bounds = ("plot_lower_bound", "plot_upper_bound")
    return {name: [getattr(metrics.get(name), bound, None) for bound in bounds] for name in names}


def show_results(result: Result, console: Console) -> None:
    """Print the tables that end a run: every metric with the baseline beside it, and results by class."""
    record, cost = result.record, result.cost
    table = Table(title=f"{record['title']}: {result.verdict}", title_justify="left")
    table.add_column("metric")
    table.add_column("test", justify="right")
    table.add_column("baseline", justify="right", style="dim")
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
    lengths = record["lengths"] or {}
    if lengths.get("protocol") == "curriculum":
        reached = "no length" if lengths["reached"] is None else f"length {lengths['reached']:,}"
        console.print(
            f"solved {reached}, ceiling {lengths['ceiling']:,}; tested at {lengths['test']:,}", highlight=False
        )
    devices = f" on {cost['devices']} devices" if cost["devices"] > 1 else ""
    console.print(f"{cost['parameters']:,} parameters{devices}; {_duration(result)}", highlight=False)
    if record["kernel"]:
        console.print(f"kernel {record['kernel']['kernel']}: {record['kernel']['reason']}", highlight=False)
    if cost["compilations"]:
        compiled = f"{cost['compilations']} graphs compiled in {cost['compile_seconds']:.0f} s"
        console.print(compiled, highlight=False)
    for note in record["notes"]:
        console.print(note, highlight=False, style="dim")


def _duration(result: Result) -> str:
    cost, best = result.cost, result.record["best"]
    if not cost["batches"]:
        return f"prepared, not trained, in {cost['training_seconds']:.1f} s; {cost['wall_seconds']:.1f} s in all"
    done = f"{cost['epochs']} epochs, the best was {best['epoch'] + 1}"
    if best["epoch"] >= cost["epochs"] or result.record["config"]["trainer"]["max_steps"] > 0:
        chosen = f"in epoch {best['epoch'] + 1}" if best["step"] is None else f"after {best['step']:,}"
        done = f"{cost['steps']:,} steps ({cost['epochs']} whole epochs), the best was {chosen}"
    return (
        f"{done}; "
        f"{cost['training_seconds']:.1f} s of training, {cost['wall_seconds']:.1f} s in all; "
        f"{cost['examples_per_second']:,.0f} examples/s, {cost['tokens_per_second']:,.0f} steps/s"
    )
