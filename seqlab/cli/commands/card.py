"""``card cell=NAME``: measure a cell by one protocol, and write its card."""

import argparse
import dataclasses
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, final

from rich.progress import BarColumn, Progress, TextColumn

from seqlab.cli.output import Output
from seqlab.cli.parser import Parser, integer, path
from seqlab.errors import UserError
from seqlab.study.card.protocol import FULL, QUICK, load

_FOLDER = Path("cards")


def main(arguments: list[str]) -> int:
    """Make the card, or go on with it; the exit code is 1 if a run or a check failed, or the card is not finished."""
    args = _parse(arguments)
    protocol = load(args.protocol or (QUICK if args.quick else FULL))
    from seqlab.cli.commands.check import suite_of
    from seqlab.io.formatting import relative_path, shell_command
    from seqlab.runs.ownership import owned_alone
    from seqlab.study.card.card import FILE, Card
    from seqlab.study.card.page import write_page
    from seqlab.study.card.subject import choose_subject
    from seqlab.testing import run_suite

    subject = choose_subject(args.cell.partition("=")[2], args.options, protocol)
    folder = args.out or _FOLDER / _folder_name(subject.label, args)
    card = Card(protocol, subject, folder, shell_command("card", *arguments))
    checked = suite_of([f"cell={subject.registered}", *args.options])

    def checks() -> list[Mapping[str, Any]]:
        return [dataclasses.asdict(each) for each in run_suite(checked.suite, checked.only)]

    out = Output(stderr=True)
    out.print_line(f"protocol {protocol.version}: about {protocol.minutes:g} minutes on two idle cores")
    for name in protocol.missing_tasks():
        out.print_line(f"task={name} is not installed: it will be missing on the card")
    try:
        with owned_alone(folder, "makes a card"), _Bar() as progress:
            record = card.time(progress) if args.only else card.make(args.jobs, checks, progress, retry=args.retry)
    except KeyboardInterrupt:
        print(f"stopped; to go on: {shell_command('card', *arguments)}", file=sys.stderr)
        raise
    page = write_page(record, protocol, folder)
    print(f"card  {relative_path(folder / FILE)}\npage  {relative_path(page)}")
    return _exit_code(record)


def _exit_code(record: Mapping[str, Any]) -> int:
    failed = any(each["result"] == "failed" for each in record["conformance"] or ())
    failed |= any(row["failed"] for row in (record["reach"] or {}).get("rows", ()))
    runs = [run for part in record["parts"] for row in part["rows"] for run in row["runs"]]
    return int(failed or not record["finished"] or any(run["state"] != "done" for run in runs))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "card",
        description="Measure a cell by one protocol at one budget of parameters: conformance, cost, reach, length "
        "generalisation, state tracking, capacity, gradient flow, expressivity. A second call goes on with the card.",
    )
    parser.add_argument("cell", metavar="cell=NAME", help="a registered cell")
    parser.add_argument("options", metavar="cell.KEY=VALUE", nargs="*", default=[], help="options of the cell")
    parser.add_argument("--quick", action="store_true", help="the quick protocol: minutes instead of an hour")
    parser.add_argument("--protocol", metavar="FILE", help="another protocol, a YAML file")
    parser.add_argument("--only", choices=("cost",), help="measure the cost of a card again, on an idle machine")
    parser.add_argument("--retry", action="store_true", help="train runs that failed again")
    parser.add_argument("--jobs", type=integer(1), default=2, metavar="N", help="processes that train (%(default)s)")
    parser.add_argument("--out", type=path, metavar="FOLDER", help="folder of the card (cards/NAME)")
    args = parser.parse(arguments)
    if not args.cell.startswith("cell=") or args.cell == "cell=":
        raise UserError(f"{args.cell} must be cell=NAME; python -m seqlab plugins cell lists the names")
    if args.quick and args.protocol:
        raise UserError("--quick and --protocol exclude each other")
    if args.protocol and not args.protocol.endswith((".yaml", ".yml")):
        raise UserError(f"--protocol {args.protocol} must name a YAML file")
    return args


def _folder_name(label: str, args: argparse.Namespace) -> str:
    """Return the cell's name with its options, and which protocol if not the full one."""
    other = "-quick" if args.quick else f"-{Path(args.protocol).stem}" if args.protocol else ""
    return re.sub(r"[^\w.=-]+", "-", label) + other


@final
class _Bar:
    """Progress bar of the runs with the time left; without a terminal a line for each stage."""

    def __init__(self) -> None:
        self._runs = self._done = 0
        self._since = time.monotonic()
        columns: Sequence[Any] = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}")
        console = Output(stderr=True)
        self._is_terminal = console.is_terminal
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._is_terminal)
        self._task = self._bar.add_task("", total=None, left="")

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begin(self, stage: str, runs: int = 0) -> None:
        """Show the stage, and the runs that are left."""
        self._runs, self._done, self._since = runs, 0, time.monotonic()
        self._bar.reset(self._task, total=runs or None, description=stage, left=f"about {runs} runs left" * bool(runs))
        if not self._is_terminal:
            print(f"{stage} ...", file=sys.stderr, flush=True)

    def advance(self) -> None:
        """Count a run."""
        self._done += 1
        runs = max(0, self._runs - self._done)
        left = timedelta(seconds=round(runs * (time.monotonic() - self._since) / self._done))
        self._bar.update(self._task, completed=self._done, left=f"about {runs} runs left, {left}")
