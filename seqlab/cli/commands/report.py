"""``report DIR...``: results of sweeps and runs as one page with figures."""

import sys
import time
from collections.abc import Callable

from seqlab.cli.errors import reporting_foreign
from seqlab.cli.parser import Parser, path
from seqlab.errors import UserError
from seqlab.io.formatting import relative_path

_SILENT = 2.0
"""Seconds before progress is shown."""


def main(arguments: list[str]) -> int:
    """Write the report and print its path."""
    parser = Parser("report", description="Write one page on the runs in some folders.")
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", type=path, help="folder of a sweep, of a run, or of several"
    )
    parser.add_argument("--out", metavar="FOLDER", type=path, help="folder of the report (of one DIR: DIR/report)")
    parser.add_argument("--apart", action="store_true", help="put runs that are not comparable into separate sections")
    args = parser.parse(arguments)
    if args.out is None and len(args.folders) > 1:
        raise UserError("a report on several folders needs --out, such as --out runs/report")
    from seqlab.io.safe_io import check_within
    from seqlab.study.report import write_report

    out = args.out or check_within(args.folders[0], args.folders[0] / "report")
    with reporting_foreign(f"cannot write a report on {', '.join(map(str, args.folders))}"):
        page = write_report(args.folders, out, apart=args.apart, on_progress=_progress())
    print(relative_path(page.resolve()))
    return 0


def _progress() -> Callable[[str], None]:
    """Return a function that shows progress on one line of the terminal after a while."""
    began = time.monotonic()

    def show(line: str) -> None:
        if time.monotonic() - began > _SILENT and sys.stderr.isatty():
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)

    return show
