"""``report DIR...``: what a sweep, several, or any runs found, as one page with its figures."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from seqlab.cli.parser import Parser
from seqlab.errors import UserError, one_line
from seqlab.io.formatting import relative_path

_SILENT = 2.0
"""Seconds after which a line says how far it is."""


def main(arguments: list[str]) -> int:
    """Write the report and print where it is."""
    parser = Parser("report", description="Write one page on the runs in some folders.")
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="of a sweep, of a run, or of some of them")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where it goes (of one DIR: DIR/report)")
    parser.add_argument("--apart", action="store_true", help="put what is not comparable into sections of its own")
    asked = parser.parse_args(arguments)
    if asked.out is None and len(asked.folders) > 1:
        raise UserError("of several folders, say with --out where the report goes, such as --out runs/report")
    from seqlab.io.safe_io import check_within
    from seqlab.study.report import write_report

    out = asked.out or check_within(asked.folders[0], asked.folders[0] / "report")
    try:
        page = write_report(asked.folders, out, apart=asked.apart, on_progress=_teller())
    except (UserError, OSError):
        raise
    except Exception as error:  # what a figure makes of a stranger's numbers is anything
        said = f"{type(error).__name__}: {one_line(error)[:300]}"
        raise UserError(f"no report can be made of {', '.join(map(str, asked.folders))}: {said}") from error
    print(relative_path(page.resolve()))
    return 0


def _teller() -> Callable[[str], None]:
    """Tell how far it is, on one line of the terminal, once it takes its time."""
    began = time.monotonic()

    def tell(line: str) -> None:
        if time.monotonic() - began > _SILENT and sys.stderr.isatty():
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)

    return tell
