"""Ledger of a sweep: its plan, and the state of each run.

Each run folder has a run record ``run.json``, written only by the process that owns the folder; ``sweep.json`` lists
the planned runs. No file is written by several processes.
"""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, final

from hydra_ledger.errors import LedgerError, one_line
from hydra_ledger.files import is_plain_name, read_json, write_json
from hydra_ledger.locks import is_locked
from hydra_ledger.slurm import active_jobs, job_id

log = logging.getLogger("hydra_ledger")

SWEEP = "sweep.json"
RUN = "run.json"
QUEUED = "queued.json"
SCHEMA = 1
MOST_RUNS = 100_000
"""Largest number of runs of a sweep; reading so many takes half a minute."""

State = Literal["done", "running", "queued", "killed", "failed", "planned"]
STATES: tuple[State, ...] = ("done", "running", "queued", "killed", "failed", "planned")
_STORED: Mapping[str, State] = {
    "done": "done", "running": "running", "stopped": "killed", "failed": "failed", "queued": "queued",
    "missing": "planned",
}  # fmt: skip
"""States of a run record, and their names here; a run that is killed at once leaves ``running`` and no owner."""


@final
@dataclass(frozen=True)
class Entry:
    """A run of a sweep.

    Attributes:
        name: of the run folder.
        overrides: of the run.
        state: ``done``; ``running``; ``queued``, waiting for the scheduler; ``killed``, ended by a signal or a crash;
            ``failed``; ``planned``, not started.
        cause: why it failed or was killed.
        value: what the run returned, if it is done.
        seconds: duration in the process that ended it.
        job: of the scheduler.
        record: further fields of the run record.
    """

    name: str
    overrides: tuple[str, ...]
    state: State
    cause: str | None = None
    value: Any = None
    seconds: float | None = None
    job: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


def _no_fault(_: Path) -> str | None:
    return None


def _recorded_value(_: Path, record: Mapping[str, Any]) -> Any:
    return record.get("value")


def _no_fields() -> Mapping[str, Any]:
    return {}


@final
@dataclass(frozen=True)
class Hooks:
    """What an application does in its own way; the defaults suit any Hydra application.

    Attributes:
        read: read a JSON object, ``None`` where there is no file; raises ``error`` or ``OSError``.
        write: write JSON atomically; raises ``error``.
        error: exception for a mistake of the user.
        fault: say why the folder of a run whose record says ``done`` is not finished; ``None`` if it is.
        value: return what a finished run returned, from its folder and its record.
        is_running: whether some process runs the run of a folder.
        fields: further fields of a run record at its start.
        numbers: keys of a run record that hold a number or null.
    """

    read: Callable[[Path], dict[str, Any] | None] = read_json
    write: Callable[[Path, Any], None] = write_json
    error: type[Exception] = LedgerError
    fault: Callable[[Path], str | None] = _no_fault
    value: Callable[[Path, Mapping[str, Any]], Any] = _recorded_value
    is_running: Callable[[Path], bool] = is_locked
    fields: Callable[[], Mapping[str, Any]] = _no_fields
    numbers: tuple[str, ...] = ("seconds",)


@final
class Records:
    """Plan and run records of sweeps.

    Args:
        hooks: of the application.
    """

    def __init__(self, hooks: Hooks | None = None) -> None:
        self.hooks = hooks or Hooks()

    def write_plan(
        self,
        folder: Path,
        overrides: Sequence[str],
        runs: Mapping[str, Sequence[str]],
        *,
        open: bool = False,
        **further: Any,
    ) -> None:
        """Write ``sweep.json``: overrides of the command line and of each run, and whether a sweeper may add runs."""
        plan = {
            "schema": SCHEMA,
            "words": list(overrides),
            "working_folder": str(Path.cwd()),
            "runs": [{"name": name, "words": list(each)} for name, each in runs.items()],
            "open": open,
            **further,
        }
        self.hooks.write(folder / SWEEP, plan)

    def read_plan(self, folder: Path) -> dict[str, Any]:
        """Read and check ``sweep.json``."""
        path, error = folder / SWEEP, self.hooks.error
        plan = self.hooks.read(path) if path.is_file() else None
        if plan is None:
            raise error(f"{folder} is no sweep's folder: it has no {SWEEP}")
        if plan.get("schema") != SCHEMA:
            raise error(f"{path} has schema {plan.get('schema')}; this version reads {SCHEMA}")
        runs = plan.get("runs")
        if not isinstance(runs, list) or not all(
            isinstance(run, dict) and _are_texts(run.get("words")) for run in runs
        ):
            raise error(f"{path} has no list of runs with their overrides")
        if len(runs) > MOST_RUNS:
            raise error(f"{path} names {len(runs):,} runs; a sweep has {MOST_RUNS:,} at most")
        if wrong := [run.get("name") for run in runs if not is_plain_name(run.get("name"))]:
            raise error(f"{path} names a run {str(wrong[0])[:80]!r}, which is no name of a folder")
        if not _are_texts(plan.get("words")) or not isinstance(plan.get("working_folder"), str):
            raise error(f"{path} has no overrides, or no working_folder")
        if not isinstance(plan.get("about", {}), dict):
            raise error(f"{path} does not say which sweep it is of: its about is {str(plan['about'])[:40]!r}")
        return plan

    def read_entries(self, folder: Path) -> list[Entry]:
        """Read the state of each run: those of the plan in order, then others that the folder holds."""
        overrides = {str(run["name"]): tuple(run["words"]) for run in self.read_plan(folder)["runs"]}
        folders = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")}
        others = sorted(name for name in folders - overrides.keys() if (folder / name / RUN).is_file())
        entries = [self.read_entry(folder / name, overrides.get(name)) for name in [*overrides, *others]]
        if not any(entry.state == "queued" for entry in entries):
            return entries
        queue = active_jobs()
        return [
            replace(entry, state="killed", cause=f"job {entry.job} is not in the queue any more")
            if entry.state == "queued" and entry.job not in queue
            else entry
            for entry in entries
        ]

    def read_entry(self, folder: Path, overrides: Sequence[str] | None = None) -> Entry:
        """Read the state of one run, and its overrides unless they are known."""
        try:
            record = self._read_record(folder)
            is_gone = record.get("state") == "running" and not self.hooks.is_running(folder)
            if is_gone:
                record = self._read_record(folder)  # it may have ended between the two
            state, cause = _STORED[record.get("state", "missing")], record.get("cause")
            if is_gone and state == "running":
                state, cause = "killed", f"its process on {record.get('host')} is gone"
            if state == "done" and (fault := self.hooks.fault(folder)) is not None:
                state, cause = "planned", fault
            value = self.hooks.value(folder, record) if state == "done" else None
        except (self.hooks.error, LedgerError, OSError) as error:
            return Entry(folder.name, tuple(overrides or ()), "failed", one_line(error)[:300])
        if overrides is None:
            overrides = record.get("words") or ()
        further = record.get("seconds"), record.get("job"), record
        return Entry(folder.name, tuple(overrides), state, cause, value, *further)

    def _read_record(self, folder: Path) -> dict[str, Any]:
        """Read ``run.json`` or ``queued.json``; a queued run counts as queued unless it is done or running."""
        record: dict[str, Any] = {}
        for name in (QUEUED, RUN):
            found = self.hooks.read(folder / name)
            if found is None:
                continue
            self._check_record(found, folder / name)
            if name == QUEUED:
                record = {**found, "state": "queued"}
            elif not record or found["state"] in ("done", "running"):
                record = found
        return record

    def _check_record(self, record: Mapping[str, Any], path: Path) -> None:
        valid = {
            "state": path.name == QUEUED or record.get("state") in list(_STORED),  # a list takes values without a hash
            "words": record.get("words") is None or _are_texts(record["words"]),
            **{key: record.get(key) is None or isinstance(record[key], str) for key in ("cause", "job")},
            **{key: record.get(key) is None or is_number(record[key]) for key in self.hooks.numbers},
        }
        if wrong := [key for key, is_valid in valid.items() if not is_valid]:
            raise self.hooks.error(f"{path} cannot be read: its {wrong[0]} is {str(record.get(wrong[0]))[:40]!r}")

    def write_queued(self, folder: Path, overrides: Sequence[str], job: str) -> None:
        """Record that a run waits as a job of the scheduler, until its own run record replaces this."""
        self.hooks.write(folder / QUEUED, {"words": list(overrides), "job": job})

    def begin(self, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
        """Write the run record at the start, as ``running``; return it."""
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "state": "running",
            "words": list(overrides),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": job_id(),
            **self.hooks.fields(),
            "began": time.time(),
        }
        self.hooks.write(folder / RUN, record)
        (folder / QUEUED).unlink(missing_ok=True)
        return record

    def end(self, folder: Path, record: dict[str, Any]) -> None:
        """Write the run record at the end; one that still says ``running`` is of a run that was stopped."""
        if record["state"] == "running":
            record["state"] = "stopped"
        record["seconds"] = time.time() - record["began"]
        try:
            self.hooks.write(folder / RUN, record)
        except self.hooks.error as error:  # the old record then reads as killed, and the run can be resumed
            log.error("%s", error)

    @contextmanager
    def recording(self, folder: Path, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Write the run record at the start, as ``running``, and at the end.

        The caller sets ``state`` to ``done`` or ``failed``, and the run's value or ``cause``.
        """
        record = self.begin(folder, overrides)
        try:
            yield record
        finally:
            self.end(folder, record)


class _Ended(Protocol):
    """What a summary shows of a run."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def cause(self) -> str | None: ...


def summary(entries: Sequence[_Ended], states: Sequence[str] = STATES) -> list[str]:
    """Return a line with the number of runs by state, and one for each run that failed, was killed or stopped."""
    counts = Counter(entry.state for entry in entries)
    listed = ", ".join(f"{counts[state]:,} {state}" for state in states if counts[state])
    first = f"{len(entries):,} runs: {listed or 'none'}"
    ended = (entry for entry in entries if entry.state in ("failed", "killed", "stopped"))
    return [first, *(f"{entry.state:8} {entry.name}: {entry.cause or 'by a signal'}" for entry in ended)]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_number(value: Any) -> bool:
    """Return whether a value of a record is a number of reasonable size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
