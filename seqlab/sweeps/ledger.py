"""Ledger of a sweep: its plan, and the state of each run.

Each run folder has a run record ``run.json``, written only by the process that owns the folder; ``sweep.json`` lists
the planned runs. No file is written by several processes.
"""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

from seqlab.errors import UserError, one_line
from seqlab.io import atomic
from seqlab.io.safe_io import is_plain_name
from seqlab.runs import run_folder
from seqlab.runs.ownership import is_owned
from seqlab.sweeps import launchers

log = logging.getLogger("seqlab")

SWEEP = "sweep.json"
RUN = "run.json"
QUEUED = "queued.json"
SCHEMA = 1
MOST_RUNS = 100_000
"""Largest number of runs of a sweep; reading so many takes half a minute."""

OBJECTIVE_SPLIT = "valid"
"""Split of ``objective``; a run record without ``objective_split`` has the score of the test split."""

State = Literal["done", "running", "queued", "stopped", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "stopped", "failed", "missing")


@final
@dataclass(frozen=True)
class Entry:
    """A run of a sweep.

    Attributes:
        name: of the run folder.
        overrides: of the run.
        state: ``done``; ``running``; ``queued``, waiting for the scheduler; ``stopped`` by a signal or a crash, can be
            resumed; ``failed``; ``missing``, not started.
        cause: why it failed or stopped.
        objective: best validation value of the monitored metric, if it is done.
        linear: the same of the linear baseline, where there is one.
        seconds: duration in the process that ended it.
        job: of the scheduler.
    """

    name: str
    overrides: tuple[str, ...]
    state: State
    cause: str | None = None
    objective: float | None = None
    seconds: float | None = None
    job: str | None = None
    linear: float | None = None


def write_plan(
    folder: Path, overrides: Sequence[str], runs: Mapping[str, Sequence[str]], *, open: bool = False
) -> None:
    """Write ``sweep.json``: overrides of the command line and of each run, and whether a sweeper may add runs."""
    planned = [{"name": name, "words": list(each)} for name, each in runs.items()]
    plan = {
        "schema": SCHEMA,
        "words": list(overrides),
        "working_folder": str(Path.cwd()),
        "runs": planned,
        "open": open,
    }
    atomic.write_json(folder / SWEEP, plan)


def read_plan(folder: Path) -> dict[str, Any]:
    """Read and check ``sweep.json``."""
    path = folder / SWEEP
    if not path.is_file():
        raise UserError(f"{folder} is no sweep's folder: it has no {SWEEP}")
    plan = run_folder.read_json(path, plain=True)
    if plan.get("schema") != SCHEMA:
        raise UserError(f"{path} has schema {plan.get('schema')}; this version reads {SCHEMA}")
    runs = plan.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, dict) and _are_texts(run.get("words")) for run in runs):
        raise UserError(f"{path} has no list of runs with their overrides")
    if len(runs) > MOST_RUNS:
        raise UserError(f"{path} names {len(runs):,} runs; a sweep has {MOST_RUNS:,} at most")
    if wrong := [run.get("name") for run in runs if not is_plain_name(run.get("name"))]:
        raise UserError(f"{path} names a run {str(wrong[0])[:80]!r}, which is no name of a folder")
    if not _are_texts(plan.get("words")) or not isinstance(plan.get("working_folder"), str):
        raise UserError(f"{path} has no overrides, or no working_folder")
    return plan


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def read_entries(folder: Path) -> list[Entry]:
    """Read the state of each run: those of the plan in order, then others that the folder holds."""
    overrides = {str(run["name"]): tuple(run["words"]) for run in read_plan(folder)["runs"]}
    folders = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")}
    others = sorted(name for name in folders - overrides.keys() if (folder / name / RUN).is_file())
    entries = [read_entry(folder / name, overrides.get(name)) for name in [*overrides, *others]]
    if not any(entry.state == "queued" for entry in entries):
        return entries
    queue = launchers.active_jobs()
    return [
        replace(entry, state="stopped", cause=f"job {entry.job} is not in the queue any more")
        if entry.state == "queued" and entry.job not in queue
        else entry
        for entry in entries
    ]


def summary(entries: Sequence[Entry]) -> list[str]:
    """Return a line with the number of runs by state, and one for each run that failed or stopped."""
    counts = Counter(entry.state for entry in entries)
    first = f"{len(entries):,} runs: " + ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    ended = (entry for entry in entries if entry.state in ("failed", "stopped"))
    return [first, *(f"{entry.state:8} {entry.name}: {entry.cause or 'by a signal'}" for entry in ended)]


def read_entry(folder: Path, overrides: Sequence[str] | None = None) -> Entry:
    """Read the state of one run, and its overrides unless they are known."""
    try:
        record = _read_record(folder)
    except (UserError, OSError) as error:
        return Entry(folder.name, tuple(overrides or ()), "failed", one_line(error)[:300])
    state, cause = record.get("state", "missing"), record.get("cause")
    if state == "running" and not is_owned(folder):
        state, cause = "stopped", f"its process on {record.get('host')} is gone"
    if state == "done" and not (folder / run_folder.RESULTS).is_file():
        state, cause = "missing", f"its {run_folder.RESULTS} is gone"
    if overrides is None:
        overrides = record.get("words") or ()
    objective = _objective(folder, record) if state == "done" else None
    further = record.get("seconds"), record.get("job"), record.get("linear") if state == "done" else None
    return Entry(folder.name, tuple(overrides), state, cause, objective, *further)


def _objective(folder: Path, record: Mapping[str, Any]) -> float | None:
    """Return the validation value of a finished run, from its results if its run record has the test score."""
    if record.get("objective_split") == OBJECTIVE_SPLIT:
        objective: float | None = record.get("objective")
        return objective
    try:
        best = run_folder.read_json(folder / run_folder.RESULTS).get("best")
    except (UserError, OSError):
        return None
    value: Any = best.get("valid") if isinstance(best, Mapping) else None
    return float(value) if _is_number(value) else None


def _read_record(folder: Path) -> dict[str, Any]:
    """Read ``run.json`` or ``queued.json``; a queued run counts as queued unless it is done or running."""
    record: dict[str, Any] = {}
    for name in (QUEUED, RUN):
        found = run_folder.find_json(folder / name, plain=True)
        if found is None:
            continue
        _check_record(found, folder / name)
        if name == QUEUED:
            record = {**found, "state": "queued"}
        elif not record or found["state"] in ("done", "running"):
            record = found
    return record


def _check_record(record: Mapping[str, Any], path: Path) -> None:
    valid = {
        "state": path.name == QUEUED or record.get("state") in STATES,
        "words": record.get("words") is None or _are_texts(record["words"]),
        **{key: record.get(key) is None or isinstance(record[key], str) for key in ("cause", "job")},
        **{key: record.get(key) is None or _is_number(record[key]) for key in ("objective", "seconds", "linear")},
    }
    if wrong := [key for key, is_valid in valid.items() if not is_valid]:
        raise UserError(f"{path} cannot be read: its {wrong[0]} is {str(record.get(wrong[0]))[:40]!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def write_queued(folder: Path, overrides: Sequence[str], job: str) -> None:
    """Record that a run waits as a job of the scheduler, until its own run record replaces this."""
    atomic.write_json(folder / QUEUED, {"words": list(overrides), "job": job})


@contextmanager
def run_status(folder: Path, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Write the run record at the start, as ``running``, and at the end.

    The caller sets ``state`` to ``done`` or ``failed``, and ``objective`` and ``linear``, or ``cause``; otherwise it
    is ``stopped``.
    """
    began = time.time()
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "state": "running",
        "words": list(overrides),
        "objective_split": OBJECTIVE_SPLIT,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": job_id(),
        "gpus": os.environ.get(launchers.VARIABLE),
        "began": began,
    }
    atomic.write_json(folder / RUN, record)
    (folder / QUEUED).unlink(missing_ok=True)
    try:
        yield record
    finally:
        if record["state"] == "running":
            record["state"] = "stopped"
        record["seconds"] = time.time() - began
        try:
            atomic.write_json(folder / RUN, record)
        except UserError as error:  # the old record then reads as stopped, and the run can be resumed
            log.error("%s", error)


def job_id() -> str | None:
    """Return the scheduler's name of this job; ``None`` without a scheduler."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    return os.environ.get("SLURM_JOB_ID")
