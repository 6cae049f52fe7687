"""``verify RUN_DIR``: is a run folder whole, and does its test metric come out again?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from seqlab.verbs.parser import Parser

if TYPE_CHECKING:
    from seqlab.training.again import Finding

COLOURS = {"ok": "green", "differs": "yellow", "wrong": "red"}


def main(arguments: list[str]) -> int:
    """Show what was found; the exit code is 1 if something is wrong."""
    parser = Parser(
        "verify",
        description="Hold a run folder against what it says of itself: the hashes of its files, the shapes of its "
        "weights, the versions of its plugins, and the recorded test metrics, which are computed once more.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder that a run wrote")
    parser.add_argument("--no-score", action="store_true", help="leave out the test metrics, which need the data")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    from seqlab.training.again import verified

    findings = verified(asked.run_dir, scores=not asked.no_score)
    if asked.json:
        print(json.dumps({"run": str(asked.run_dir), "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        show(findings, str(asked.run_dir))
    return int(any(finding.state == "wrong" for finding in findings))


def show(findings: "list[Finding]", title: str) -> None:
    """Print a table of findings."""
    table = Table("what", "state", "found", title=title, title_justify="left")
    for finding in findings:
        table.add_row(finding.what, f"[{COLOURS[finding.state]}]{finding.state}[/]", finding.said)
    Console(highlight=False).print(table)
