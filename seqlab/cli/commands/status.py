"""``status SWEEP_DIR``: state of each run of a sweep."""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from seqlab.cli.output import Output, print_json
from seqlab.cli.parser import Parser, path
from seqlab.errors import UserError
from seqlab.io.formatting import format_metric
from seqlab.sweeps.ledger import STATES, Entry, read_entries


def main(arguments: list[str]) -> int:
    """Print counts, and the runs that failed or stopped; the exit code is 1 if a run failed."""
    parser = Parser("status", description="Show the state of each run of a sweep.")
    parser.add_argument("folder", metavar="SWEEP_DIR", type=path)
    parser.add_argument("--all", action="store_true", help="list every run, not only those that failed or stopped")
    parser.add_argument("--watch", action="store_true", help="repeat until no run is running or missing")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="period of --watch (%(default)s)")
    parser.add_json()
    args = parser.parse(arguments)
    if not 0 < args.every < float("inf"):
        raise UserError(f"--every must be a number of seconds > 0, got {args.every}")
    out = Output()
    while True:
        entries = read_entries(args.folder)
        _show(entries, args, out)
        if not args.watch or not any(entry.state in ("running", "missing") for entry in entries):
            return int(any(entry.state == "failed" for entry in entries))
        time.sleep(args.every)


def _plain(entry: Entry) -> dict[str, Any]:
    """Return an entry under the keys of ``run.json``."""
    return {"words" if key == "overrides" else key: value for key, value in asdict(entry).items()}


def _show(entries: list[Entry], args: argparse.Namespace, out: Output) -> None:
    if args.json:
        print_json([_plain(entry) for entry in entries])
        return
    if args.watch and out.is_terminal:
        out.clear()
    if not args.all:
        show_summary(entries, out)
        return
    out.print_line(_counts(entries))
    out.print_table(("run", "overrides", "state", "objective", "seconds", "cause"), _rows(entries))


def _rows(entries: list[Entry]) -> Iterator[list[str]]:
    common = set.intersection(*(set(entry.overrides) for entry in entries)) if len(entries) > 1 else set()
    for entry in entries:
        yield [
            entry.name,
            " ".join(word for word in entry.overrides if word not in common),
            entry.state,
            "" if entry.objective is None else format_metric(entry.objective),
            "" if entry.seconds is None else f"{entry.seconds:.1f}",
            entry.cause or "",
        ]


def _counts(entries: list[Entry]) -> str:
    counts = Counter(entry.state for entry in entries)
    return f"{len(entries):,} runs: " + ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])


def show_summary(entries: list[Entry], out: Output) -> None:
    """Print the number of runs by state, and a line for each run that failed or stopped."""
    out.print_line(_counts(entries))
    for entry in entries:
        if entry.state in ("failed", "stopped"):
            out.print_line(f"{entry.state:8} {entry.name}: {entry.cause or 'by a signal'}")
