"""Cross-validation by ``task.folds``: a sweep over the folds, mean and interval, and a model trained on all rows."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from seqlab.cli.arguments import folder_value
from seqlab.cli.output import Output
from seqlab.config.build import build_task
from seqlab.config.compose import compose
from seqlab.errors import UserError
from seqlab.io.atomic import write_json
from seqlab.io.formatting import format_metric, hydra_override, relative_path
from seqlab.plugins.hydra_source import Sources, sources
from seqlab.runs.results import read_results
from seqlab.runs.run_folder import RESUME
from seqlab.study.intervals import Range, fold_interval
from seqlab.sweeps.ledger import read_entries
from seqlab.sweeps.overrides import override_key

FOLDS = "folds.json"
"""File in the sweep folder with the scores of the folds."""
_OF_COMMAND = ("task.fold", "task.refit", "hydra.run.dir", "ckpt_path")
"""Keys of a command that its folds do not have."""


def requested_folds(overrides: Sequence[str]) -> int | None:
    """Return the number of folds that a command runs; ``None`` for a single run."""
    keys = {override_key(word) for word in overrides}
    if not keys & {"task.folds", "experiment"} and sources() == Sources():  # no config of seqlab sets folds
        return None
    task = compose(overrides).task
    if (count := task.get("folds")) is None or task.get("fold") is not None:
        return None
    build_task(task)  # checks the options before a folder is made
    return int(count)


def is_refit(overrides: Sequence[str]) -> bool:
    """Return whether a model is trained on all rows after the folds."""
    return bool(compose(overrides).task.get("refit"))


def fold_overrides(overrides: Sequence[str], count: int) -> list[str]:
    """Return the overrides of the sweep over the folds."""
    kept = [word for word in overrides if override_key(word) not in _OF_COMMAND]
    return [*kept, f"task.fold={','.join(map(str, range(count)))}", "task.refit=false"]


def refit_overrides(overrides: Sequence[str], sweep: Path, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the overrides of the run on all rows, as long as the folds needed on average to their best checkpoint."""
    config = records[0]["config"]
    # Of this run, valid and test are rows of train, which data.duplicates=drop would remove.
    set_here = {"data.batch_size": config["data"]["batch_size"], "data.duplicates": "keep"}
    epochs = [record["best"]["epoch"] for record in records]
    if config["trainer"]["max_steps"] == -1 and all(isinstance(epoch, int) and epoch >= 0 for epoch in epochs):
        set_here |= {
            "trainer.max_epochs": 1 + round(sum(epochs) / len(epochs)),
            "trainer.early_stopping": "null",
        }
    steps = [record["best"]["step"] for record in records]
    if config["trainer"]["max_steps"] != -1 and all(isinstance(step, int) and step > 0 for step in steps):
        set_here |= {"trainer.max_steps": round(sum(steps) / len(steps)), "trainer.early_stopping": "null"}
    kept = [
        word for word in overrides if override_key(word) not in set_here and override_key(word) != "hydra.sweep.dir"
    ]
    folder = folder_value(overrides, "hydra.run.dir") or sweep.with_name(f"{sweep.name}_refit")
    if folder_value(overrides, "hydra.run.dir") is None:
        kept.append(hydra_override("hydra.run.dir", str(folder)))
    if (folder / RESUME).exists() and "ckpt_path" not in map(override_key, overrides):
        kept.append("ckpt_path=last")
    return [*kept, *(f"{key}={value}" for key, value in set_here.items())]


def read_folds(sweep: Path) -> list[dict[str, Any]]:
    """Read the results of the folds, which are all done."""
    return [read_results(sweep / entry.name) for entry in read_entries(sweep)]


def estimate(records: Sequence[Mapping[str, Any]], sweep: Path) -> dict[str, Any]:
    """Return mean, 95 % interval and values of each test metric over the folds, as plain JSON values."""
    ranges, metrics = records[0].get("ranges", {}), {}
    sizes = [record["data"] for record in records]
    ratio = fmean(size["test"]["examples"] / size["train"]["examples"] for size in sizes)
    for name in records[0]["metrics"]["test"]:
        values = [record["metrics"]["test"][name] for record in records]
        if all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            found = Range(*ranges.get(name, (None, None))).clip(fold_interval(values, ratio))
            metrics[name] = {"mean": found.mean, "low": found.low, "high": found.high, "values": values}
    if not metrics:
        raise UserError(f"{relative_path(sweep)}: no test metric of the folds is a number")
    return {"folds": len(records), "folder": relative_path(sweep), "metrics": metrics}


def write_estimate(sweep: Path, found: Mapping[str, Any]) -> None:
    """Write :data:`FOLDS`."""
    write_json(sweep / FOLDS, found)


def show_estimate(found: Mapping[str, Any], out: Output, title: str) -> None:
    """Print mean, interval, lowest and highest value of each metric."""
    rows = []
    for name, each in found["metrics"].items():
        ends = f"{format_metric(each['low'])} to {format_metric(each['high'])}"
        rows.append(
            [name, format_metric(each["mean"]), ends, *map(format_metric, (min(each["values"]), max(each["values"])))]
        )
    headings = ("metric", "mean", "95 % interval", "lowest", "highest")
    out.print_table(headings, rows, right=headings[1:], title=title)
