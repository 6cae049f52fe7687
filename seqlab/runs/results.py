"""``results.json``: reading and writing."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from seqlab._version import __version__
from seqlab.errors import UserError
from seqlab.io.atomic import write_json
from seqlab.runs.run_folder import RESULTS, RESULTS_SCHEMA, read_json
from seqlab.runs.scores import Verdict

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
    """Read ``results.json`` of a finished run."""
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
    """Return a table with a row for each extra test split; no table where there are none."""
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
    """Return the smallest and the largest value of each metric, as torchmetrics has them; ``None`` is unbounded."""
    metrics = dict(collection.items())
    bounds = ("plot_lower_bound", "plot_upper_bound")
    return {name: [getattr(metrics.get(name), bound, None) for bound in bounds] for name in names}
