"""``report DIR...`` and ``compare A B``: a report of runs, and differences between two sets."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from seqlab.cli.output import Output
from seqlab.cli.parser import Parser, path
from seqlab.errors import UserError, reporting_foreign
from seqlab.io.formatting import format_metric, relative_path
from seqlab.study.compare import Comparison, compare, read_sides
from seqlab.study.report.writer import Format

_SILENT = 2.0
"""Seconds before progress is shown."""


def report(arguments: list[str]) -> int:
    """Write the report and print its path."""
    parser = Parser("report", description="Write a page or a paper on the runs in some folders.")
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", type=path, help="folder of a sweep, of a run, or of several"
    )
    parser.add_argument("--out", metavar="FOLDER", type=path, help="folder of the report (of one DIR: in it)")
    parser.add_argument("--format", choices=get_args(Format), default="html", help="html; latex; pdf (needs LaTeX)")
    parser.add_argument("--metric", help="test metric to report (the one that selected the checkpoints)")
    parser.add_argument("--rows", metavar="LABEL", nargs="+", default=(), help="rows to report, such as lstm (all)")
    parser.add_argument("--anonymous", action="store_true", help="leave out paths, commits, names of users and hosts")
    parser.add_argument("--apart", action="store_true", help="put runs that are not comparable into separate sections")
    args = parser.parse(arguments)
    options = {name: getattr(args, name) for name in ("apart", "metric", "rows", "anonymous")}
    if args.out is None and len(args.folders) > 1:
        raise UserError("a report on several folders needs --out, such as --out runs/report")
    from seqlab.io.safe_io import check_within
    from seqlab.study.report import write_report

    name = "report_anonymous" if args.anonymous else "report"  # not beside the files of one with names
    out = args.out or check_within(args.folders[0], args.folders[0] / name)
    with reporting_foreign(f"cannot write a report on {', '.join(map(str, args.folders))}"):
        page = write_report(args.folders, out, form=args.format, on_progress=_progress(), **options)
    print(relative_path(page.resolve()))
    return 0


def _progress() -> Callable[[str], None]:
    """Return a function that shows progress on one line of the terminal after a while."""
    began = time.monotonic()

    def show(line: str) -> None:
        if time.monotonic() - began > _SILENT and sys.stderr.isatty():
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)

    return show


_MOST = 40


def compare_runs(arguments: list[str]) -> int:
    """Print the pairs, unpaired runs and the verdict."""
    parser = Parser(
        "compare",
        description="Compare the validation scores of two sets of runs, paired by seed; test scores are shown.",
    )
    parser.add_argument("first", metavar="A", type=path, help="folder of a run or a sweep; with --in a label")
    parser.add_argument("second", metavar="B", type=path, help="the same")
    parser.add_argument("--in", dest="within", metavar="SWEEP_DIR", type=path, help="A and B are labels of this sweep")
    parser.add_argument("--metric", help="metric to compare (the one that selected the checkpoints)")
    args = parser.parse(arguments)
    first, second = read_sides(str(args.first), str(args.second), args.within)
    _show(compare(first, second, args.metric, within_one=args.within is not None), Output())
    return 0


def _show(found: Comparison, out: Output) -> None:
    a, b = found.sides
    for key, values in found.differences.items():
        out.print_line(f"{key}: A {values[0]}, B {values[1]}")
    keys = list(dict.fromkeys(key for pair in found.pairs for key in pair.shared))
    columns = [*keys, "A", "B", "B - A"]
    rows = (
        [
            *(pair.shared.get(key, "") for key in keys),
            *map(format_metric, pair.values),
            format_metric(pair.difference, "+"),
        ]
        for pair in found.pairs[:_MOST]
    )
    out.print_table(columns, rows, right=columns, title=f"validation {found.metric}: A {a.name}, B {b.name}")
    if len(found.pairs) > _MOST:
        out.print_line(f"and {len(found.pairs) - _MOST:,} more pairs")
    for line in found.unpaired:
        out.print_line(f"unpaired  {line}")
    for fault in (*a.faults, *b.faults):
        out.print_line(f"{fault.kind}  {relative_path(Path(fault.place))}: {fault.cause}")
    for line in found.below_baseline():
        out.print_line(line)
    out.print_line(found.verdict(), "bold")
    if (tested := found.test_summary()) is not None:
        out.print_line(tested)
