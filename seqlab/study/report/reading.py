"""Runs, wherever they lie: of sweeps, of folders of runs, single ones; what is damaged is named, and the rest read."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from seqlab.errors import UserError, one_line
from seqlab.io.formatting import relative_path
from seqlab.runs import run_folder
from seqlab.runs.commands import shell_command
from seqlab.study.report.runs import Run, check
from seqlab.sweeps import ledger

HORIZON = "horizon.json"
_HORIZON_SCHEMA = 1
_MARKS = (run_folder.RESULTS, ledger.RUN, ledger.QUEUED, run_folder.MODEL_CARD, run_folder.RESUME)
"""Files of which a run folder has at least one."""
_DEEPEST = 4
"""How far below a given folder is searched: ``runs`` holds ``sweeps/<key>/<run>``."""


@final
@dataclass(frozen=True)
class Fault:
    """What is missing from a report, and why.

    Attributes:
        kind: ``failed``, ``stopped``, ``missing``, ``running``, ``queued``, ``damaged``, ``left out`` or
            ``counted once``.
        place: the folder or file.
        what: the cause, in a line.
        command: that does it again; empty where there is none.
    """

    kind: str
    place: str
    what: str
    command: str = ""


@final
@dataclass
class Collected:
    """What lies in some folders."""

    runs: list[Run] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    horizons: list[tuple[Path, Mapping[str, Any]]] = field(default_factory=list)
    asked: int = 0
    commands: list[str] = field(default_factory=list)


def collect(folders: Sequence[Path], tell: Callable[[str], None] = lambda _: None) -> Collected:
    """Read every run in some folders: sweeps, run folders, and whatever holds some of them.

    Args:
        folders: where to look; what lies in two of them is read once.
        tell: is told now and then how far the reading is.

    Raises:
        UserError: a folder does not exist, or no run was ever begun or planned in any of them.
    """
    found, seen = Collected(), set[Path]()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; give a run's, a sweep's, or one that holds some of them")
        before = found.asked
        places = list(_places(folder, _DEEPEST, set()))
        for place in places:
            if place.resolve() not in seen:
                seen.add(place.resolve())
                _read_place(place, found, tell)
        if found.asked == before and not any(place.resolve() in seen for place in places):
            raise UserError(
                f"{folder} holds no runs: neither {ledger.SWEEP} nor {run_folder.RESULTS} is in it or below"
            )
    _take_out_repeats(found)
    return found


def _places(folder: Path, deeper: int, seen: set[Path]) -> Iterator[Path]:
    """Find sweeps and runs, each folder once: links may lead in circles."""
    if (real := folder.resolve()) in seen:
        return
    seen.add(real)
    if (folder / ledger.SWEEP).exists() or _is_run(folder):
        yield folder
    elif deeper:
        for name in _subfolders(folder):
            yield from _places(folder / name, deeper - 1, seen)


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in _MARKS)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _read_place(place: Path, found: Collected, tell: Callable[[str], None]) -> None:
    if not (place / ledger.SWEEP).exists():
        found.asked += 1
        _read_run(place, place, _single(place), {}, found)
        return
    labels = _read_horizon(place, found)
    for count, entry in enumerate(_entries(place, found), start=1):
        found.asked += 1
        _read_run(place / entry.name, place, entry, labels, found)
        tell(f"{relative_path(place)}: {count:,} runs read")


def _entries(place: Path, found: Collected) -> list[ledger.Entry]:
    """List a sweep's runs; of one whose plan is damaged those that left a folder."""
    try:
        entries = ledger.read_entries(place)
        found.commands.append(shell_command("-m", *ledger.read_plan(place)["words"]))
        return entries
    except (UserError, KeyError, TypeError, AttributeError) as error:
        what = one_line(error) if isinstance(error, UserError) else f"{ledger.SWEEP} lacks {one_line(error)}"
        found.faults.append(
            Fault("damaged", relative_path(place / ledger.SWEEP), f"{what}; the runs that began are read")
        )
        return [_single(place / name) for name in _subfolders(place) if _is_run(place / name)]


def _single(place: Path) -> ledger.Entry:
    entry = ledger.read_entry(place)
    if entry.state == "missing" and (place / run_folder.RESULTS).exists():
        return ledger.Entry(place.name, entry.overrides, "done")
    if entry.state == "missing":
        return ledger.Entry(place.name, entry.overrides, "stopped", f"it has no {run_folder.RESULTS}")
    return entry


def _read_run(folder: Path, source: Path, entry: ledger.Entry, labels: Mapping[str, str], found: Collected) -> None:
    typed = shell_command(*entry.overrides) if entry.overrides else ""
    if entry.state != "done":
        cause = entry.cause or {"missing": "not begun", "stopped": "stopped by a signal"}.get(entry.state, entry.state)
        found.faults.append(Fault(entry.state, relative_path(folder), cause, typed))
        return
    try:
        record = run_folder.read_json(folder / run_folder.RESULTS)
        check(record)
    except (UserError, ValueError, OSError) as error:
        what = one_line(error).replace(f"{folder / run_folder.RESULTS} ", "")
        found.faults.append(Fault("damaged", relative_path(folder / run_folder.RESULTS), what, typed))
        return
    if labels and entry.name not in labels:
        cause = "done, but not among the runs of the search's decisions: it checked the budget, or came in since"
        found.faults.append(Fault("left out", relative_path(folder), cause, typed))
        return
    run = Run(folder, source, record, labels.get(entry.name))
    if run.score() is None:
        cause = f"its test {run.monitor} is no number, so that it is in no figure"
        found.faults.append(Fault("damaged", relative_path(folder), cause, run.command))
    found.runs.append(run)


def _read_horizon(place: Path, found: Collected) -> dict[str, str]:
    """Read a sweep's horizons, and give the label of each of their runs."""
    path = place / HORIZON
    if not path.exists():
        return {}
    try:
        horizon = run_folder.read_json(path)
        if horizon.get("schema") != _HORIZON_SCHEMA:
            raise ValueError(f"has schema {horizon.get('schema')}; this version reads {_HORIZON_SCHEMA}")
        rows = horizon["rows"]
        labels = {str(trial["run"]): str(row["label"]) for row in rows for trial in row["trials"] if trial.get("run")}
        if any(not isinstance(row["task"], str) for row in rows):
            raise ValueError("has a row whose task is no text")
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else one_line(error).replace(f"{path} ", "")
        found.faults.append(Fault("damaged", relative_path(path), what))
        return {}
    found.horizons.append((place, horizon))
    return labels


def _take_out_repeats(found: Collected) -> None:
    """Keep one of several runs that computed the same: a second one is no further seed."""
    first: dict[str, Run] = {}
    kept = []
    for run in found.runs:
        same = json.dumps([sorted(run.settings.items()), run.task], default=str)
        if (earlier := first.setdefault(same, run)) is run:
            kept.append(run)
        else:
            what = f"the same settings as {relative_path(earlier.folder)}, seed included"
            found.faults.append(Fault("counted once", relative_path(run.folder), what))
    found.runs = kept
