"""Command line: ``hydra-ledger status SWEEP_DIR`` and ``hydra-ledger resume SWEEP_DIR``."""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra_ledger.errors import LedgerError
from hydra_ledger.identity import override_key
from hydra_ledger.records import SWEEP, Entry, Records, summary
from hydra_ledger.selection import selecting

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error is one line, and the exit code is 1."""
    parser = argparse.ArgumentParser(prog="hydra-ledger", description="Sweeps of Hydra: what became of their jobs.")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="the state of each job; exit code 1 if one failed")
    status.add_argument("folder", metavar="SWEEP_DIR", type=Path)
    status.add_argument("--all", action="store_true", help="list every job, not only those that failed or were killed")
    status.add_argument("--json", action="store_true")
    resume = commands.add_parser("resume", help="run the command of the sweep again; finished jobs are kept")
    resume.add_argument("folder", metavar="SWEEP_DIR", type=Path)
    resume.add_argument("--failed", action="store_true", help="only the jobs that failed")
    resume.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as hydra/launcher=joblib")
    args, further = parser.parse_known_args(arguments)  # overrides that follow an option
    if further and (args.command != "resume" or any(each.startswith("-") for each in further)):
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    if further:
        args.overrides = [*args.overrides, *further]
    try:
        return _status(args) if args.command == "status" else _resume(args)
    except (LedgerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _status(args: argparse.Namespace) -> int:
    records = Records()
    plan, entries = records.read_plan(args.folder), records.read_entries(args.folder)
    if args.json:
        shown = [{key: value for key, value in asdict(each).items() if key != "record"} for each in entries]
        print(json.dumps(shown, indent=2))
    else:
        print("\n".join(summary(entries)[: 1 if args.all else None]))
        if plan.get("open"):
            print("the sweeper was not through: it may add jobs")
        for entry in entries if args.all else ():
            print(_row(entry))
    return int(any(entry.state == "failed" for entry in entries))


def _row(entry: Entry) -> str:
    value = "" if entry.value is None else json.dumps(entry.value)
    return f"{entry.name:8} {entry.state:8} {' '.join(entry.overrides)}  {entry.cause or value}".rstrip()


def _resume(args: argparse.Namespace) -> int:
    folder, records = args.folder.resolve(), Records()
    plan, entries = records.read_plan(folder), records.read_entries(folder)
    failed = [entry.name for entry in entries if entry.state == "failed"]
    if args.failed and not failed:
        print("no job failed")
        return 0
    if not (plan.get("open") or args.overrides) and all(entry.state == "done" for entry in entries):
        print(f"nothing is left to do: {len(entries):,} of {len(entries):,} jobs are done")
        return 0
    command = plan.get("command")
    if not isinstance(command, list) or not all(isinstance(each, str) for each in command):
        raise LedgerError(f"{folder / SWEEP} has no command; repeat it yourself, with hydra.sweep.dir={folder}")
    if hasattr(os, "getuid") and (folder / SWEEP).stat().st_uid != os.getuid():
        raise LedgerError(f"{folder / SWEEP} is another user's, and its command would run with your rights")
    if args.failed and not _is_grid(plan):
        raise LedgerError(f"the sweeper of {folder} needs the value of every job that it proposes; leave out --failed")
    changed = {"hydra.sweep.dir", *map(override_key, args.overrides)}
    kept = [each for each in command if override_key(each) not in changed]
    words = [sys.executable, *kept, *args.overrides, f"hydra.sweep.dir={_quoted(str(folder))}"]
    with selecting(folder, failed if args.failed else None):
        return _run(words, plan["working_folder"])


def _is_grid(plan: Mapping[str, Any]) -> bool:
    """Return whether the sweeper is Hydra's own, which does not use the values of its jobs."""
    about = plan.get("about")
    sweeper = about.get("sweeper") if isinstance(about, dict) else None
    return isinstance(sweeper, dict) and str(sweeper.get("_target_")).endswith(".BasicSweeper")


def _run(words: Sequence[str], folder: str) -> int:
    """Run a command and return its exit code; Ctrl-C reaches it, too, and it ends in its own time."""
    with subprocess.Popen(words, cwd=folder) as process:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue
            return code if code >= 0 else 128 - code


def _quoted(value: str) -> str:
    """Quote a text where Hydra would read something else."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = re.sub(
        r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), value.replace("${", r"\${")
    )
    return f'"{escaped}"'


if __name__ == "__main__":
    sys.exit(main())
