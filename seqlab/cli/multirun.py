"""Folder and plan of a sweep, and its summary."""

import sys
from collections.abc import Sequence
from pathlib import Path

from seqlab.cli.arguments import folder_value
from seqlab.cli.commands.status import show_summary
from seqlab.cli.hydra_plugins import check_plugins, is_search, register_launcher, register_sweeper
from seqlab.cli.output import Output
from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.runs.commands import hydra_override, shell_command
from seqlab.sweeps.direction import with_direction
from seqlab.sweeps.ledger import read
from seqlab.sweeps.overrides import key_of
from seqlab.sweeps.plan import choices_of, folder_of, plan, rename_old_sweep

_FRESH = {"fresh=true": True, "fresh=false": False}


def prepare(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """Check a sweep, choose its folder and write its plan.

    Args:
        arguments: overrides of the command line; ``fresh=true`` renames the folder of an earlier sweep.

    Returns:
        The overrides for Hydra, and the folder.

    Raises:
        UserError, hydra.errors.HydraException: a run cannot be composed.
    """
    overrides, fresh = _split_fresh(arguments)
    given = folder_value(overrides, "hydra.sweep.dir")
    overrides = [word for word in overrides if key_of(word) != "hydra.sweep.dir"]
    folder = given or folder_of(overrides)
    sweeper, launcher = choices_of(overrides)
    register_launcher(launcher)
    check_plugins(overrides, sweeper, launcher)
    direction = [] if sweeper == "basic" or is_search(sweeper) else with_direction(overrides, sweeper)
    if fresh and (earlier := rename_old_sweep(folder)) is not None:
        print(f"the earlier sweep is now {relative_path(earlier)}", file=sys.stderr)
    plan(folder, overrides, sweeper)
    overrides += [*direction, *register_sweeper(sweeper, overrides)]
    return [*overrides, hydra_override("hydra.sweep.dir", str(folder))], folder


def _split_fresh(arguments: Sequence[str]) -> tuple[list[str], bool]:
    for word in arguments:
        if word.partition("=")[0] == "fresh" and word not in _FRESH:
            raise UserError(f"{word}: fresh must be true or false")
    return [word for word in arguments if word not in _FRESH], any(_FRESH.get(word) for word in arguments)


def finish(folder: Path) -> int:
    """Print the summary of a sweep; the exit code is 1 unless all runs are done."""
    entries = read(folder)
    out = Output()
    show_summary(entries, out)
    out.print_line(f"sweep folder  {relative_path(folder)}")
    if left := [entry for entry in entries if entry.state != "done"]:
        command = shell_command("resume", relative_path(folder))
        out.print_line(f"{len(left)} of {len(entries)} runs are not done; to resume: {command}")
    return int(bool(left))
