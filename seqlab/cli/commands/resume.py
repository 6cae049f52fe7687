"""``resume SWEEP_DIR``: do the runs of a sweep that are not done."""

import os
import sys
from pathlib import Path

from seqlab.cli.arguments import SEARCHPATH, parse
from seqlab.cli.parser import Parser
from seqlab.errors import UserError
from seqlab.io.safe_io import check_links
from seqlab.runs.commands import hydra_override
from seqlab.sweeps.ledger import SWEEP, read_entries, read_plan
from seqlab.sweeps.overrides import check_file_overrides, override_key
from seqlab.sweeps.plan import selecting


def main(arguments: list[str]) -> int:
    """Start the sweep's words again; what is done is left alone, and what was begun goes on where it stopped."""
    parser = Parser("resume", description="Do the runs of a sweep that are not done.")
    parser.add_argument("folder", metavar="SWEEP_DIR", type=Path)
    parser.add_argument("--failed", action="store_true", help="only those that failed")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as hydra/launcher=joblib")
    asked = parser.parse_args(arguments)
    if wrong := [word for word in asked.overrides if "=" not in word and not word.startswith("~")]:
        raise UserError(f"{wrong[0]}: there is one sweep at a time; further settings are key=value")
    folder = asked.folder.resolve()
    check_links(folder)
    plan, entries = read_plan(folder), read_entries(folder)
    left = [entry for entry in entries if entry.state == "failed" or (entry.state != "done" and not asked.failed)]
    if not left and plan["runs"] and not plan.get("open"):
        print(f"nothing is left to do: {len(entries):,} runs, {sum(e.state == 'done' for e in entries):,} of them done")
        return 0
    changed = {override_key(word) for word in asked.overrides}
    kept = [word for word in plan["words"] if override_key(word) not in changed]
    chosen = [word for word in kept if word.partition("=")[0] in _SOURCES]
    _check_sources(chosen, folder)
    words = [word for word in kept if word not in chosen]
    check_file_overrides(words, str(folder / SWEEP), "if it is yours, say it again: resume SWEEP_DIR 'KEY=VALUE'")
    if _is_own(where := Path(plan["working_folder"]), folder) and where.resolve() != Path.cwd():
        _go_to(where)
    from seqlab.cli.train import train

    with selecting(folder, [entry.name for entry in left] if asked.failed else None):
        return train(["-m", *chosen, *words, *asked.overrides, hydra_override("hydra.sweep.dir", str(folder))])


_SOURCES = ("--config-name", SEARCHPATH)
"""What a plan says of where its configs are composed from."""


def _check_sources(words: list[str], folder: Path) -> None:
    """Refuse the config folders of a plan that are not the user's.

    Raises:
        UserError: one came with the sweep, or belongs to another user.
    """
    for place in parse(words).sources.folders:
        scheme, _, path = place.partition("://")
        if scheme != "file" or not _is_own(Path(path), folder):
            raise UserError(
                f"{folder / SWEEP} composes its configs from {place}, which is not yours; if you trust it, say so: "
                f"resume SWEEP_DIR '{SEARCHPATH}=[{place}]'"
            )


def _go_to(where: Path) -> None:
    """Make relative paths among the words mean what they meant; nothing is imported from there, by no process."""
    sys.path[:] = [place or str(Path.cwd()) for place in sys.path]
    os.environ["PYTHONSAFEPATH"] = "1"  # else each process that is started looks there first
    os.chdir(where)


def _is_own(where: Path, folder: Path) -> bool:
    """Whether a working folder is the user's, and came not with the sweep: Python imports what lies in one."""
    if not where.is_absolute() or not where.is_dir():
        return False
    mine = not hasattr(os, "getuid") or where.stat().st_uid == os.getuid()
    return mine and not where.resolve().is_relative_to(folder)
