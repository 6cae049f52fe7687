"""What became of each run of a sweep: read from the run folders, of which each keeps its own page.

There is no common file that many processes write: a run folder has ``run.json``, written by the one process that owns
the folder, and ``sweep.json`` lists the runs that were asked for.
"""

import logging
import os
import socket
import time
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
from seqlab.sweeps import resources

log = logging.getLogger("seqlab")

SWEEP = "sweep.json"
RUN = "run.json"
QUEUED = "queued.json"
SCHEMA = 1
MOST_RUNS = 100_000
"""Of a sweep: that many take half a minute to read."""

OBJECTIVE_SPLIT = "valid"
"""Split that ``objective`` is from; a page that does not say so was written when it was the test split's."""

State = Literal["done", "running", "queued", "stopped", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "stopped", "failed", "missing")


@final
@dataclass(frozen=True)
class Entry:
    """A run of a sweep.

    Attributes:
        name: its folder's.
        words: the overrides that make it this one.
        state: ``done``; ``running``; ``queued``, waiting for the scheduler; ``stopped``, by a signal or a crash, so
            that it can go on; ``failed``; ``missing``, not begun.
        cause: why it failed or stopped.
        objective: the best validation value of the monitored metric, if it is done.
        seconds: that it took, in the process that ended it.
        job: of the scheduler.
    """

    name: str
    words: tuple[str, ...]
    state: State
    cause: str | None = None
    objective: float | None = None
    seconds: float | None = None
    job: str | None = None


def write_plan(folder: Path, words: Sequence[str], runs: Mapping[str, Sequence[str]], *, open: bool = False) -> None:
    """Write down what a sweep asks for.

    Args:
        folder: the sweep's.
        words: what was typed behind ``-m``.
        runs: the words of each run, by its folder's name; where a sweeper decides as it goes, those decided so far.
        open: whether a sweeper may yet ask for more.
    """
    planned = [{"name": name, "words": list(each)} for name, each in runs.items()]
    record = {"schema": SCHEMA, "words": list(words), "working_folder": str(Path.cwd()), "runs": planned, "open": open}
    atomic.write_json(folder / SWEEP, record)


def read_plan(folder: Path) -> dict[str, Any]:
    """Read it.

    Raises:
        UserError: the folder holds no sweep.
    """
    if not (folder / SWEEP).is_file():
        raise UserError(f"{folder} is no sweep's folder: it has no {SWEEP}")
    plan = run_folder.read_json(folder / SWEEP, plain=True)
    if plan.get("schema") != SCHEMA:
        raise UserError(f"{folder / SWEEP} has schema {plan.get('schema')}; this version reads {SCHEMA}")
    runs = plan.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, dict) and _are_words(run.get("words")) for run in runs):
        raise UserError(f"{folder / SWEEP} has no list of runs with their words")
    if len(runs) > MOST_RUNS:
        raise UserError(f"{folder / SWEEP} names {len(runs):,} runs; a sweep has {MOST_RUNS:,} at most")
    if wrong := [run.get("name") for run in runs if not is_plain_name(run.get("name"))]:
        raise UserError(f"{folder / SWEEP} names a run {str(wrong[0])[:80]!r}, which is no name of a folder")
    if not _are_words(plan.get("words")) or not isinstance(plan.get("working_folder"), str):
        raise UserError(f"{folder / SWEEP} has no words, or no working_folder")
    return plan


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def read(folder: Path) -> list[Entry]:
    """Read what became of each run, in the order in which they were asked for.

    Raises:
        UserError: the folder holds no sweep.
    """
    plan = read_plan(folder)
    words = {str(run["name"]): tuple(run["words"]) for run in plan["runs"]}
    there = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")}
    more = sorted(name for name in there - words.keys() if (folder / name / RUN).is_file())
    entries = [entry_of(folder / name, words.get(name)) for name in [*words, *more]]
    if not any(entry.state == "queued" for entry in entries):
        return entries
    waiting = resources.active()
    return [
        replace(entry, state="stopped", cause=f"job {entry.job} is not in the queue any more")
        if entry.state == "queued" and entry.job not in waiting
        else entry
        for entry in entries
    ]


def entry_of(folder: Path, words: Sequence[str] | None = None) -> Entry:
    """Read what became of one run."""
    try:
        page = _page(folder)
    except (UserError, OSError) as error:
        return Entry(folder.name, tuple(words or ()), "failed", one_line(error)[:300])
    state, cause = page.get("state", "missing"), page.get("cause")
    if state == "running" and not is_owned(folder):
        state, cause = "stopped", f"its process on {page.get('host')} is gone"
    if state == "done" and not (folder / run_folder.RESULTS).is_file():
        state, cause = "missing", f"its {run_folder.RESULTS} is gone"
    if words is None:
        words = page.get("words") or ()
    objective = _objective(folder, page) if state == "done" else None
    return Entry(folder.name, tuple(words), state, cause, objective, page.get("seconds"), page.get("job"))


def _objective(folder: Path, page: Mapping[str, Any]) -> float | None:
    """Return the validation value of a finished run; an older page has the test split's, so that its record is read."""
    if page.get("objective_split") == OBJECTIVE_SPLIT:
        objective: float | None = page.get("objective")
        return objective
    try:
        best = run_folder.read_json(folder / run_folder.RESULTS).get("best")
    except (UserError, OSError):
        return None
    value: Any = best.get("valid") if isinstance(best, Mapping) else None
    return float(value) if _is_number(value) else None


def _page(folder: Path) -> dict[str, Any]:
    page: dict[str, Any] = {}
    for name in (QUEUED, RUN):
        found = run_folder.find_json(folder / name, plain=True)
        if found is None:
            continue
        _check_page(found, folder / name)
        if name == QUEUED:
            page = {**found, "state": "queued"}
        elif not page or found["state"] in ("done", "running"):
            page = found
    return page


def _check_page(page: Mapping[str, Any], path: Path) -> None:
    """Check what a page says of a run.

    Raises:
        UserError: a value of it is not what it must be.
    """
    sound = {
        "state": path.name == QUEUED or page.get("state") in STATES,
        "words": page.get("words") is None or _are_words(page["words"]),
        **{key: page.get(key) is None or isinstance(page[key], str) for key in ("cause", "job")},
        **{key: page.get(key) is None or _is_number(page[key]) for key in ("objective", "seconds")},
    }
    if wrong := [key for key, is_sound in sound.items() if not is_sound]:
        raise UserError(f"{path} cannot be read: its {wrong[0]} is {str(page.get(wrong[0]))[:40]!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def write_queued(folder: Path, words: Sequence[str], job: str) -> None:
    """Say that a run waits as this job of the scheduler; the run's own page takes its place."""
    atomic.write_json(folder / QUEUED, {"words": list(words), "job": job})


@contextmanager
def run_status(folder: Path, words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Keep a run folder's page: ``running`` now, and at the end what the caller put into it.

    The caller sets ``state`` to ``done`` or ``failed``, and ``objective`` or ``cause``; whatever ends it without is
    ``stopped``.
    """
    began = time.time()
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "state": "running",
        "words": list(words),
        "objective_split": OBJECTIVE_SPLIT,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": job_id(),
        "gpus": os.environ.get(resources.VARIABLE),
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
        except UserError as error:  # its state then reads as stopped, so that it can go on
            log.error("%s", error)


def job_id() -> str | None:
    """Give the scheduler's name for this job, if there is a scheduler."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    return os.environ.get("SLURM_JOB_ID")
