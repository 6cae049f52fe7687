"""Plan, progress and summary of a sweep."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import final

from seqlab.cli.arguments import folder_value
from seqlab.cli.commands.status import show_summary
from seqlab.cli.hydra_plugins import check_plugins, is_search, register_launcher, register_sweeper
from seqlab.cli.output import Output
from seqlab.errors import UserError
from seqlab.io.formatting import format_metric, hydra_override, relative_path, shell_command
from seqlab.runs.results import Result
from seqlab.sweeps.direction import direction_overrides
from seqlab.sweeps.ledger import SWEEP, Entry, read_entries, read_entry, read_plan
from seqlab.sweeps.overrides import override_key
from seqlab.sweeps.plan import chosen_plugins, plan_sweep, rename_old_sweep, sweep_folder

_FRESH = {"fresh=true": True, "fresh=false": False}


def prepare(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """Check a sweep, choose its folder and write its plan.

    Args:
        arguments: overrides of the command line; ``fresh=true`` renames the folder of an earlier sweep.

    Returns:
        The overrides for Hydra, and the folder.

    Raises:
        UserError, hydra.errors.HydraException: a run cannot be composed.
    """
    overrides, fresh = _split_fresh(arguments)
    given = folder_value(overrides, "hydra.sweep.dir")
    overrides = [word for word in overrides if override_key(word) != "hydra.sweep.dir"]
    folder = given or sweep_folder(overrides)
    sweeper, launcher = chosen_plugins(overrides)
    register_launcher(launcher)
    check_plugins(overrides, sweeper, launcher)
    direction = [] if sweeper == "basic" or is_search(sweeper) else direction_overrides(overrides, sweeper)
    if fresh and (earlier := rename_old_sweep(folder)) is not None:
        print(f"the earlier sweep is now {relative_path(earlier)}", file=sys.stderr)
    plan_sweep(folder, overrides, sweeper)
    overrides += [*direction, *register_sweeper(sweeper, overrides)]
    return [*overrides, hydra_override("hydra.sweep.dir", str(folder))], folder


def _split_fresh(arguments: Sequence[str]) -> tuple[list[str], bool]:
    for word in arguments:
        if word.partition("=")[0] == "fresh" and word not in _FRESH:
            raise UserError(f"{word}: fresh must be true or false")
    return [word for word in arguments if word not in _FRESH], any(_FRESH.get(word) for word in arguments)


@final
@dataclass
class _Progress:
    """Counts of a sweep when its ledger was last read, with the runs that this process has done since.

    ``is_open`` says that a sweeper may ask for more runs than ``total``; ``cost`` is the time of the last reading.
    """

    total: int
    is_open: bool
    read_at: float
    cost: float
    done: int = 0
    failed: int = 0
    seconds: float = 0.0

    def is_old(self) -> bool:
        """Return whether to read the ledger again, which may take a twentieth of this process's time."""
        return time.monotonic() - self.read_at > max(2.0, 20 * self.cost)

    def count(self, entry: Entry) -> None:
        """Add a run."""
        self.done += entry.state == "done"
        self.failed += entry.state == "failed"
        self.seconds += (entry.seconds or 0) if entry.state == "done" else 0


_SWEEPS: dict[Path, _Progress] = {}


def _progress(run: Path) -> _Progress:
    sweep = run.parent
    known = _SWEEPS.get(sweep)
    if known is not None and not known.is_old():
        known.count(read_entry(run))
        return known
    began = time.monotonic()
    entries, is_open = [], False
    if (sweep / SWEEP).exists():
        entries, is_open = read_entries(sweep), bool(read_plan(sweep).get("open"))
    now = time.monotonic()
    known = _SWEEPS[sweep] = _Progress(len(entries), is_open, now, now - began)
    for entry in entries:
        known.count(entry)
    return known


def progress_line(run: Path, result: Result | None) -> str:
    """Describe the result of a run of a sweep, and the progress of the sweep."""
    known = _progress(run)
    score = "failed" if result is None else f"validation {result.monitor} {format_metric(result.objective)}"
    ended = known.done + known.failed
    line = f"run {ended}" if known.is_open else f"{ended} of {max(known.total, ended)}"
    line += f"  {run.name}  {score}" + (f"; {known.failed} failed" if known.failed else "")
    left = known.total - ended
    if known.done and left > 0 and not known.is_open:
        line += f"; about {timedelta(seconds=round(left * known.seconds / known.done))} of work left"
    return line


def finish(folder: Path) -> int:
    """Print the summary of a sweep; the exit code is 1 unless all runs are done."""
    entries = read_entries(folder)
    out = Output()
    show_summary(entries, out)
    out.print_line(f"sweep folder  {relative_path(folder)}")
    if left := [entry for entry in entries if entry.state != "done"]:
        command = shell_command("resume", relative_path(folder))
        out.print_line(f"{len(left)} of {len(entries)} runs are not done; to resume: {command}")
    return int(bool(left))
