"""``status SWEEP_DIR``: what became of each run of a sweep."""

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.cli.parser import Parser
from seqlab.errors import UserError
from seqlab.io.formatting import format_metric
from seqlab.sweeps.ledger import STATES, Entry, read_entries


def main(arguments: list[str]) -> int:
    """Print counts, and the runs that failed or stopped; the exit code is 1 where a run failed."""
    parser = Parser("status", description="Say what became of each run of a sweep.")
    parser.add_argument("folder", metavar="SWEEP_DIR", type=Path)
    parser.add_argument("--all", action="store_true", help="list every run, not only those that failed or stopped")
    parser.add_argument("--watch", action="store_true", help="say it again every few seconds, until none is running")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="of --watch (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if not 0 < asked.every < float("inf"):
        raise UserError(f"--every is {asked.every}; it must be a number of seconds above 0")
    console = Console(highlight=False)
    while True:
        entries = read_entries(asked.folder)
        _show(entries, asked, console)
        if not asked.watch or not any(entry.state in ("running", "missing") for entry in entries):
            return 1 if any(entry.state == "failed" for entry in entries) else 0
        time.sleep(asked.every)


def _show(entries: list[Entry], asked: argparse.Namespace, console: Console) -> None:
    if asked.json:
        print(json.dumps([_plain(entry) for entry in entries], indent=2, ensure_ascii=False))
        return
    if asked.watch and console.is_terminal:
        console.clear()
    console.print(summary(entries), soft_wrap=True)
    if asked.all:
        console.print(_table(entries))
    else:
        show_faults(entries, console)


def _plain(entry: Entry) -> dict[str, Any]:
    """Return an entry under the keys of ``run.json``."""
    return {"words" if key == "overrides" else key: value for key, value in asdict(entry).items()}


def _table(entries: list[Entry]) -> Table:
    table = Table("run", "what", "state", "objective", "seconds", "cause")
    common = set.intersection(*(set(entry.overrides) for entry in entries)) if len(entries) > 1 else set()
    for entry in entries:
        table.add_row(
            escape(entry.name),
            escape(" ".join(word for word in entry.overrides if word not in common)),
            entry.state,
            "" if entry.objective is None else format_metric(entry.objective),
            "" if entry.seconds is None else f"{entry.seconds:.1f}",
            escape(entry.cause or ""),
        )
    return table


def summary(entries: list[Entry]) -> str:
    """Count the runs by state."""
    counts = Counter(entry.state for entry in entries)
    return f"{len(entries):,} runs: " + ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])


def show_faults(entries: list[Entry], console: Console) -> None:
    """Print the runs that failed or stopped, and why, a line each."""
    for entry in entries:
        if entry.state in ("failed", "stopped"):
            line = f"{entry.state:8} {entry.name}: {entry.cause or 'by a signal'}"
            console.print(escape(line), soft_wrap=True)
