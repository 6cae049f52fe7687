"""Ledger of a sweep of training runs: ``hydra_ledger`` with seqlab's safe files, and the scores of a run."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from hydra_ledger import records
from hydra_ledger.records import MOST_RUNS, QUEUED, RUN, SCHEMA, SWEEP, Hooks, Records, is_number
from hydra_ledger.slurm import job_id
from seqlab.errors import UserError
from seqlab.io import atomic
from seqlab.runs import run_folder
from seqlab.runs.ownership import is_owned
from seqlab.sweeps import launchers

__all__ = [
    "MOST_RUNS", "OBJECTIVE_SPLIT", "QUEUED", "RUN", "SCHEMA", "STATES", "SWEEP", "Entry", "State", "job_id",
    "read_entries", "read_entry", "read_plan", "run_status", "summary", "write_plan", "write_queued",
]  # fmt: skip

OBJECTIVE_SPLIT = "valid"
"""Split of ``objective``; a run record without ``objective_split`` has the score of the test split."""

State = Literal["done", "running", "queued", "stopped", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "stopped", "failed", "missing")
_STATES: Mapping[records.State, State] = {
    "done": "done", "running": "running", "queued": "queued", "killed": "stopped", "failed": "failed",
    "planned": "missing",
}  # fmt: skip
"""Names of the states in seqlab: a killed run continues from its checkpoint."""


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


def _read(path: Path) -> dict[str, Any] | None:
    return run_folder.find_json(path, plain=True)


def _write(path: Path, value: Any) -> None:
    atomic.write_json(path, value)


def _fault(folder: Path) -> str | None:
    return None if (folder / run_folder.RESULTS).is_file() else f"its {run_folder.RESULTS} is gone"


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
    return float(value) if is_number(value) else None


def _fields() -> dict[str, Any]:
    return {"objective_split": OBJECTIVE_SPLIT, "gpus": os.environ.get(launchers.VARIABLE)}


_RECORDS = Records(
    Hooks(
        read=_read, write=_write, error=UserError, fault=_fault, value=_objective, is_running=is_owned, fields=_fields,
        numbers=("objective", "seconds", "linear"),
    )
)  # fmt: skip

write_plan = _RECORDS.write_plan
read_plan = _RECORDS.read_plan
write_queued = _RECORDS.write_queued


def read_entries(folder: Path) -> list[Entry]:
    """Read the state of each run: those of the plan in order, then others that the folder holds."""
    return [_entry(each) for each in _RECORDS.read_entries(folder)]


def read_entry(folder: Path, overrides: Sequence[str] | None = None) -> Entry:
    """Read the state of one run, and its overrides unless they are known."""
    return _entry(_RECORDS.read_entry(folder, overrides))


def _entry(found: records.Entry) -> Entry:
    linear = found.record.get("linear") if found.state == "done" else None
    state = _STATES[found.state]
    return Entry(found.name, found.overrides, state, found.cause, found.value, found.seconds, found.job, linear)


def summary(entries: Sequence[Entry]) -> list[str]:
    """Return a line with the number of runs by state, and one for each run that failed or stopped."""
    return records.summary(entries, STATES)


def run_status(folder: Path, overrides: Sequence[str]) -> AbstractContextManager[dict[str, Any]]:
    """Write the run record at the start, as ``running``, and at the end.

    The caller sets ``state`` to ``done`` or ``failed``, and ``objective`` and ``linear``, or ``cause``; otherwise it
    is ``stopped``.
    """
    return _RECORDS.recording(folder, overrides)
