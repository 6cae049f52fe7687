"""Runs below some folders; damaged ones are reported and the rest is read."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from seqlab.errors import UserError, one_line
from seqlab.io.csv_files import read_csv
from seqlab.io.formatting import relative_path, shell_command
from seqlab.runs import run_folder
from seqlab.study.gradient_flow import FLOW, SATURATION, FlowRow, GradientFlow, SaturationRow, check_columns, read_rows
from seqlab.study.report.runs import LARGEST, Run, check_record
from seqlab.sweeps import ledger

HORIZON = "horizon.json"
_HORIZON_SCHEMA = 1
_MARKERS = (run_folder.RESULTS, ledger.RUN, ledger.QUEUED, run_folder.MODEL_CARD, run_folder.RESUME)
"""Files of which a run folder has at least one."""
_MAX_DEPTH = 4
"""Levels searched below a folder: ``runs`` holds ``sweeps/<key>/<run>``."""


@final
@dataclass(frozen=True)
class Fault:
    """A run or file that a report leaves out, with a cause in one line and the command to repeat it, if known."""

    kind: str
    """``failed``, ``stopped``, ``missing``, ``running``, ``queued``, ``damaged``, ``excluded`` or ``duplicate``."""
    place: str
    cause: str
    command: str = ""


@final
@dataclass
class Collected:
    """Finished runs below some folders, and what surrounds them."""

    runs: list[Run] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    horizons: list[tuple[Path, Mapping[str, Any]]] = field(default_factory=list)
    """Folder and ``horizon.json`` of each horizon search."""
    total: int = 0
    """Number of runs in any state."""
    commands: list[str] = field(default_factory=list)
    """Commands of the sweeps."""


def collect(folders: Sequence[Path], on_progress: Callable[[str], None] = lambda _: None) -> Collected:
    """Read every run below some folders, each once."""
    found, seen = Collected(), set[Path]()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; name one of a run, of a sweep, or one that contains some")
        before = found.total
        places = list(_places(folder, _MAX_DEPTH, set()))
        for place in places:
            if place.resolve() not in seen:
                seen.add(place.resolve())
                _read_place(place, found, on_progress)
        if found.total == before and not any(place.resolve() in seen for place in places):
            raise UserError(f"{folder} holds no runs: no {ledger.SWEEP} and no {run_folder.RESULTS} in it or below")
    _drop_duplicates(found)
    return found


def _places(folder: Path, depth: int, seen: set[Path]) -> Iterator[Path]:
    """Find sweeps and runs, each folder once: links may be circular."""
    if (real := folder.resolve()) in seen:
        return
    seen.add(real)
    if (folder / ledger.SWEEP).exists() or _is_run(folder):
        yield folder
    elif depth:
        for name in _subfolders(folder):
            yield from _places(folder / name, depth - 1, seen)


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in _MARKERS)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _read_place(place: Path, found: Collected, on_progress: Callable[[str], None]) -> None:
    if not (place / ledger.SWEEP).exists():
        found.total += 1
        _read_run(place, place, _single_entry(place), {}, found)
        return
    labels = _read_horizon(place, found)
    for count, entry in enumerate(_entries(place, found), start=1):
        found.total += 1
        _read_run(place / entry.name, place, entry, labels, found)
        on_progress(f"{relative_path(place)}: {count:,} runs read")


def _entries(place: Path, found: Collected) -> list[ledger.Entry]:
    """Return the runs of a sweep; if its plan is damaged, those that have a folder."""
    try:
        entries = ledger.read_entries(place)
        found.commands.append(shell_command("-m", *ledger.read_plan(place)["words"]))
        return entries
    except (UserError, KeyError, TypeError, AttributeError) as error:
        cause = one_line(error) if isinstance(error, UserError) else f"{ledger.SWEEP} lacks {one_line(error)}"
        place_of_plan = relative_path(place / ledger.SWEEP)
        found.faults.append(Fault("damaged", place_of_plan, f"{cause}; only started runs are read"))
        return [_single_entry(place / name) for name in _subfolders(place) if _is_run(place / name)]


def _single_entry(place: Path) -> ledger.Entry:
    entry = ledger.read_entry(place)
    if entry.state != "missing":
        return entry
    if (place / run_folder.RESULTS).exists():
        return ledger.Entry(place.name, entry.overrides, "done")
    return ledger.Entry(place.name, entry.overrides, "stopped", f"it has no {run_folder.RESULTS}")


def _read_run(folder: Path, source: Path, entry: ledger.Entry, labels: Mapping[str, str], found: Collected) -> None:
    command = shell_command(*entry.overrides) if entry.overrides else ""
    if entry.state != "done":
        causes = {"missing": "not started", "stopped": "stopped by a signal"}
        cause = entry.cause or causes.get(entry.state, entry.state)
        found.faults.append(Fault(entry.state, relative_path(folder), cause, command))
        return
    path = folder / run_folder.RESULTS
    try:
        record = run_folder.read_json(path)
        check_record(record)
    except (UserError, ValueError, OSError) as error:
        cause = one_line(error).replace(f"{path} ", "")
        found.faults.append(Fault("damaged", relative_path(path), cause, command))
        return
    if labels and entry.name not in labels:
        cause = "budget check, further test, or finished after the last decision of the search"
        found.faults.append(Fault("excluded", relative_path(folder), cause, command))
        return
    run = Run(folder, source, record, labels.get(entry.name))
    if run.test_score() is None:
        cause = f"test {run.monitor} is not a finite number; the run is in no figure"
        found.faults.append(Fault("damaged", relative_path(folder), cause, run.command))
    found.runs.append(run)


def _read_horizon(place: Path, found: Collected) -> dict[str, str]:
    """Read the horizons of a sweep; return the label of each of their runs."""
    path = place / HORIZON
    if not path.exists():
        return {}
    try:
        horizon = run_folder.read_json(path)
        if horizon.get("schema") != _HORIZON_SCHEMA:
            raise ValueError(f"has schema {horizon.get('schema')}; this version reads {_HORIZON_SCHEMA}")
        rows = horizon["rows"]
        labels = {
            str(trial["run"]): str(row["label"]) + " curriculum" * (row.get("protocol") == "curriculum")
            for row in rows
            for trial in row["trials"]
            if trial.get("run")
        }
        if any(not isinstance(row["task"], str) for row in rows):
            raise ValueError("has a row without the name of its task")
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"has no {error}" if isinstance(error, KeyError) else one_line(error).replace(f"{path} ", "")
        found.faults.append(Fault("damaged", relative_path(path), cause))
        return {}
    found.horizons.append((place, horizon))
    return labels


def _drop_duplicates(found: Collected) -> None:
    """Keep one of several runs with the same settings: a repeated seed is no further seed."""
    first: dict[str, Run] = {}
    kept = []
    for run in found.runs:
        key = json.dumps([sorted(run.settings.items()), run.task], default=str)
        if (earlier := first.setdefault(key, run)) is run:
            kept.append(run)
        else:
            cause = f"same settings, seed included, as {relative_path(earlier.folder)}"
            found.faults.append(Fault("duplicate", relative_path(run.folder), cause))
    found.runs = kept


@final
@dataclass
class Curves:
    """Numbers in ``curves/metrics.csv`` of each run, and the gradient flow of those that measured it."""

    metrics: dict[Run, list[dict[str, float]]] = field(default_factory=dict)
    flows: dict[Run, GradientFlow] = field(default_factory=dict)


def collect_curves(found: Collected) -> Curves:
    """Read the CSV files of each run; a damaged one is added to the faults and read as absent."""
    curves = Curves()

    def rows_of(path: Path, read: Callable[[Path], list[Any]]) -> list[Any]:
        try:
            return read(path)
        except (UserError, ValueError, OSError, csv.Error) as error:
            found.faults.append(Fault("damaged", relative_path(path), f"not in the report: {one_line(error)}"))
            return []

    for run in found.runs:
        curves.metrics[run] = rows_of(run.folder / run_folder.METRICS, _read_metrics)
        rows = rows_of(run.folder / FLOW, lambda path: read_rows(path, FlowRow, strict=True))
        gates = rows_of(run.folder / SATURATION, lambda path: read_rows(path, SaturationRow, strict=True))
        if rows:
            curves.flows[run] = GradientFlow(tuple(rows), tuple(gates))
    return curves


def _read_metrics(path: Path) -> list[dict[str, float]]:
    rows = []
    if path.exists():
        check_columns(path, ["step"])
    for number, row in enumerate(read_csv(path), start=2):
        values = {key: value for key, text in row.items() if (value := _number(text)) is not None}
        if "step" not in values:
            raise ValueError(f"line {number:,}: step is {row['step']!r}, which is not a number")
        rows.append(values)
    return rows


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < LARGEST else None  # NaN compares false
