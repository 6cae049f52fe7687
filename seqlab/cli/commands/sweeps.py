"""``status`` and ``resume``: the runs of a sweep, and those that are left."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from seqlab.cli.arguments import SEARCHPATH, parse, refuse_words
from seqlab.cli.output import Output, print_json
from seqlab.cli.parser import Parser, path
from seqlab.errors import UserError
from seqlab.io.formatting import format_metric, hydra_override
from seqlab.io.safe_io import check_links
from seqlab.sweeps.ledger import SWEEP, Entry, read_entries, read_plan, summary
from seqlab.sweeps.overrides import check_file_overrides, override_key
from seqlab.sweeps.plan import check_resumed, selecting


def status(arguments: list[str]) -> int:
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
        _show_status(entries, args, out)
        if not args.watch or not any(entry.state in ("running", "missing") for entry in entries):
            return int(any(entry.state == "failed" for entry in entries))
        time.sleep(args.every)


def _show_status(entries: list[Entry], args: argparse.Namespace, out: Output) -> None:
    if args.json:
        plain = map(asdict, entries)
        print_json([{"words": each.pop("overrides"), **each} for each in plain])
        return
    if args.watch and out.is_terminal:
        out.clear()
    for line in summary(entries)[: 1 if args.all else None]:
        out.print_line(line)
    if args.all:
        columns = ["run", "overrides", "state", "objective", _LINEAR, "seconds", "cause"]
        rows = [dict(zip(columns, row, strict=True)) for row in _rows(entries)]
        shown = [name for name in columns if name != _LINEAR or any(row[name] for row in rows)]
        out.print_table(shown, ([row[name] for name in shown] for row in rows))


_LINEAR = "linear baseline"


def _rows(entries: list[Entry]) -> Iterator[list[str]]:
    common = set.intersection(*(set(entry.overrides) for entry in entries)) if len(entries) > 1 else set()
    for entry in entries:
        yield [
            entry.name,
            " ".join(word for word in entry.overrides if word not in common),
            entry.state,
            "" if entry.objective is None else format_metric(entry.objective),
            "" if entry.linear is None else format_metric(entry.linear),
            "" if entry.seconds is None else f"{entry.seconds:.1f}",
            entry.cause or "",
        ]


_SOURCES = ("--config-name", SEARCHPATH)
"""Arguments of a plan that choose the sources of its configs."""


def resume(arguments: list[str]) -> int:
    """Run the sweep again: finished runs are kept, stopped runs continue from their checkpoints."""
    parser = Parser("resume", description="Finish the runs of a sweep.")
    parser.add_argument("folder", metavar="SWEEP_DIR", type=path)
    parser.add_argument("--failed", action="store_true", help="only the runs that failed")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="such as hydra/launcher=joblib")
    args = parser.parse(arguments)
    refuse_words(args.overrides, "resume takes one sweep")
    folder = args.folder.resolve()
    check_links(folder)
    if (folder / "tune.json").is_file():
        raise UserError(f"{args.folder} is of a search: repeat its command, python -m seqlab tune ..., to go on")
    plan, entries = read_plan(folder), read_entries(folder)
    left = [entry for entry in entries if entry.state == "failed" or (entry.state != "done" and not args.failed)]
    if not left and plan["runs"] and not plan.get("open"):
        done = sum(entry.state == "done" for entry in entries)
        print(f"nothing is left to do: {done:,} of {len(entries):,} runs are done")
        return 0
    changed = {override_key(word) for word in args.overrides}
    kept = [word for word in plan["words"] if override_key(word) not in changed]
    check_resumed(folder, plan["words"], [*kept, *args.overrides])
    sources = [word for word in kept if word.partition("=")[0] in _SOURCES]
    _check_sources(sources, folder)
    overrides = [word for word in kept if word not in sources]
    check_file_overrides(overrides, str(folder / SWEEP), "if you trust it, repeat it: resume SWEEP_DIR 'KEY=VALUE'")
    if _is_own(where := Path(plan["working_folder"]), folder) and where.resolve() != Path.cwd():
        _change_folder(where)
    from seqlab.cli.train import train

    with selecting(folder, [entry.name for entry in left] if args.failed else None):
        return train(["-m", *sources, *overrides, *args.overrides, hydra_override("hydra.sweep.dir", str(folder))])


def _check_sources(arguments: Sequence[str], folder: Path) -> None:
    """Refuse config folders of a plan that came with the sweep or belong to another user."""
    for place in parse(arguments).sources.folders:
        scheme, _, folder_name = place.partition("://")
        if scheme != "file" or not _is_own(Path(folder_name), folder):
            raise UserError(
                f"{folder / SWEEP} composes its configs from {place}, which is not yours; if you trust it, add it: "
                f"resume SWEEP_DIR '{SEARCHPATH}=[{place}]'"
            )


def _change_folder(where: Path) -> None:
    """Change the working folder, for relative paths of overrides; no process imports modules from it."""
    sys.path[:] = [place or str(Path.cwd()) for place in sys.path]
    os.environ["PYTHONSAFEPATH"] = "1"  # else each child process puts the working folder on its path
    os.chdir(where)


def _is_own(where: Path, folder: Path) -> bool:
    """Return whether a folder belongs to the user and did not come with the sweep: Python imports from it."""
    if not where.is_absolute() or not where.is_dir():
        return False
    mine = not hasattr(os, "getuid") or where.stat().st_uid == os.getuid()
    return mine and not where.resolve().is_relative_to(folder)
