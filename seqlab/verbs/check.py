"""``check cell=mycell``: run the conformance kit on a plugin."""

import dataclasses
import json
import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqlab.discovery import trust
from seqlab.recurrence.compilations import compilations
from seqlab.testing import Outcome, run_suite
from seqlab.verbs.checked import KINDS, Checked, checked
from seqlab.verbs.parser import Parser

_STYLES = {"passed": "green", "failed": "red", "skipped": "yellow"}


def main(arguments: list[str]) -> int:
    """Run the checks one by one, say what came of them, and fail if one of them does."""
    asked = _parser().parse_args(arguments)
    what = checked([asked.plugin, *asked.options])
    console = Console(stderr=asked.json, highlight=False)
    since, compiling = time.perf_counter(), compilations.seconds
    with console.status("") as status:
        running = run_suite(what.suite, asked.only or what.only, lambda name: status.update(f"{what.name}: {name}"))
        outcomes = list(running)
    seconds, compiling = time.perf_counter() - since, compilations.seconds - compiling
    failed = any(one.result == "failed" for one in outcomes)
    trusted = "" if asked.only else _remembered(what, outcomes)
    if asked.json:
        record = {
            "plugin": asked.plugin,
            "options": asked.options,
            "passed": not failed,
            "seconds": seconds,
            "compile_seconds": compiling,
            "checks": [dataclasses.asdict(one) for one in outcomes],
        }
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return 1 if failed else 0
    if asked.verbose:
        console.print(_table(outcomes))
    _skips(console, outcomes)
    counts = ", ".join(f"{sum(one.result == kind for one in outcomes)} {kind}" for kind in _STYLES)
    spent = f"{seconds - compiling:.1f} s" + (f", and {compiling:.1f} s of compiling" if compiling >= 0.05 else "")
    console.print(f"{what.name} ({what.owner}): {counts}; {spent}", markup=False, soft_wrap=True)
    if trusted:
        console.print(trusted, markup=False, soft_wrap=True)
    _failures(console, outcomes)
    return 1 if failed else 0


def _parser() -> Parser:
    parser = Parser(
        "check",
        description="Run the conformance kit on a plugin, such as: seqlab check cell=lstm cell.hidden_size=8, "
        "or on a kernel over its cell: seqlab check cell=gru kernel=fused",
    )
    parser.add_argument("plugin", metavar="KIND=NAME", help=f"what to check; KIND is one of {', '.join(KINDS)}")
    parser.add_argument(
        "options", metavar="KIND.KEY=VALUE", nargs="*", help="the plugin's own options; kernel=NAME after a cell"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only the checks whose name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("-v", "--verbose", action="store_true", help="list the checks that passed as well")
    return parser


def _remembered(what: Checked, outcomes: list[Outcome]) -> str:
    """Keep for ``kernel=auto`` whether another distribution's kernel passed; say so in a line."""
    if what.kernel is None or what.options:
        return ""
    results = {one.check: one.result for one in outcomes}
    passed = results.get("full_rows") == "passed" and "failed" not in results.values()
    trust.record(what.kernel, passed)
    short = what.kernel.partition(".")[2]
    if passed:
        return f"kernel=auto may now take {short} on this machine, until its code, torch or seqlab changes"
    return f"kernel=auto does not take {short}"


def _skips(console: Console, outcomes: list[Outcome]) -> None:
    for reason in dict.fromkeys(one.detail for one in outcomes if one.result == "skipped"):
        names = [one.check.replace("_", " ") for one in outcomes if one.result == "skipped" and one.detail == reason]
        shown = f"{', '.join(names[:3])} and {len(names) - 3} more" if len(names) > 4 else ", ".join(names)
        console.print(f"skipped: {shown}: {reason}", markup=False, soft_wrap=True)


def _failures(console: Console, outcomes: list[Outcome]) -> None:
    """Give each failure two lines; those that may follow from an earlier one share a line under it."""
    failed = [one for one in outcomes if one.result == "failed"]
    for one in failed:
        if one.follows:
            continue
        console.print(f"failed: {one.check.replace('_', ' ')}: {one.demand}", markup=False, soft_wrap=True, style="red")
        console.print(f"  {one.detail}", markup=False, soft_wrap=True)
        if after := [other.check.replace("_", " ") for other in failed if other.follows == one.check]:
            line = f"  {len(after)} more failed, which may follow from it (-v shows them): {', '.join(after)}"
            console.print(line, markup=False, soft_wrap=True)


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("check", "result", "what it demands, or what is wrong", "seconds")
    for one in outcomes:
        style = _STYLES[one.result]
        detail = one.demand if one.result == "passed" else one.detail
        name = escape(one.check.replace("_", " "))
        table.add_row(name, f"[{style}]{one.result}[/{style}]", escape(detail), f"{one.seconds:.1f}")
    return table
