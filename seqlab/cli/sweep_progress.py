"""Progress of a sweep, after each of its runs."""

import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import final

from seqlab.io.formatting import format_metric
from seqlab.runs.results import Result
from seqlab.sweeps.ledger import SWEEP, Entry, entry_of, read, read_plan


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
        known.count(entry_of(run))
        return known
    began = time.monotonic()
    entries, is_open = [], False
    if (sweep / SWEEP).exists():
        entries, is_open = read(sweep), bool(read_plan(sweep).get("open"))
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
