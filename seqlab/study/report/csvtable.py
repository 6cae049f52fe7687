"""``results.csv``: a row for each run, done or not."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from seqlab.study.report.reading import Fault
from seqlab.study.report.runs import Run
from seqlab.study.report.settings import DISTANCE, RATE, REPLICATES, varying
from seqlab.training.runfolder import relative
from seqlab.training.verdicts import deciding_verdict

_COSTS = (
    "parameters",
    "state_size",
    "training_seconds",
    "tokens_per_second",
    "examples_per_second",
    "peak_memory_bytes",
    "peak_gpu_memory_bytes",
)


def results_csv(labels: Mapping[Run, str], faults: Sequence[Fault]) -> str:
    """Write all runs as one table: what was varied, metrics with their chance, cost, command; then what is missing."""
    rows = [_row(run, label) for run, label in labels.items()]
    by_task: dict[str, list[Run]] = {}
    for run in labels:
        by_task.setdefault(run.task, []).append(run)
    varied = {task: [key for key in varying(runs) if key not in (DISTANCE, RATE)] for task, runs in by_task.items()}
    for run, row in zip(labels, rows, strict=True):
        row |= {key: run.settings[key] for key in varied[run.task] if key in run.settings}
    rows += [
        {"state": fault.kind, "folder": fault.place, "cause": fault.what, "command": fault.command} for fault in faults
    ]
    first = ("task", "label", "distance", "seed", "learning_rate", "state", "verdict")
    last = ("command", "folder", "cause")
    columns = dict.fromkeys([*first, *(name for row in rows for name in row if name not in last), *last])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([_field(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _row(run: Run, label: str) -> dict[str, Any]:
    tested = run.record["metrics"]["test"]
    blind = (run.record.get("chance") or {}).get("test") or {}
    row = {
        "task": run.task,
        "label": label,
        "distance": run.distance,
        "seed": run.seed,
        "learning_rate": run.rate,
        "state": "done",
        "verdict": run.record.get("verdict"),
        "monitor": run.monitor,
        **{f"test/{name}": value for name, value in tested.items()},
        **{f"chance/{name}": value for name, value in blind.items()},
        f"valid/{run.monitor}": run.valid,
        "valid/verdict": deciding_verdict(run.record),
        "bounds/chance": run.bounds.get("chance"),
        "bounds/optimal": run.bounds.get("optimal"),
        "bounds/solved": run.bounds.get("solved"),
        **{name: run.cost(name) for name in _COSTS},
        "command": run.command,
        "folder": relative(run.folder),
    }
    row |= {key: run.settings[key] for key in REPLICATES[1:] if key in run.settings}
    return row


def _field(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
