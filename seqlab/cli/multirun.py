"""Sweeps: launchers and sweepers of Hydra, plan, progress and summary."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, final

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqlab.cli.arguments import folder_value
from seqlab.cli.output import Output
from seqlab.config.compose import compose_all, compose_full
from seqlab.errors import UserError
from seqlab.io.formatting import format_metric, hydra_override, relative_path, shell_command
from seqlab.runs.results import Result
from seqlab.runs.scores import linear_score
from seqlab.sweeps.direction import direction_overrides
from seqlab.sweeps.launchers import check_launcher, check_plugin
from seqlab.sweeps.ledger import SWEEP, Entry, read_entries, read_entry, read_plan, summary
from seqlab.sweeps.overrides import override_key
from seqlab.sweeps.plan import chosen_plugins, first_values, plan_sweep, rename_old_sweep, sweep_folder

_KINDS = ("launcher", "sweeper")
_SWEEPERS = {"horizon": ("_sweepers", "HorizonSweeper")}
"""Module and class of the sweepers of seqlab."""
_LAUNCHERS = {
    "joblib": ("_joblib", "JoblibLauncher", 'pip install "seqlab[joblib]"'),
    "ray": ("_ray", "RayLauncher", "pip install --no-deps hydra-ray-launcher==1.2.2 && pip install ray"),
    "slurm": ("_submitit", "SlurmLauncher", 'pip install "seqlab[slurm]"'),
    "submitit_local": ("_submitit", "LocalLauncher", 'pip install "seqlab[slurm]"'),
}
"""Module, class, and the command that installs what the launcher needs."""


def is_search(sweeper: str) -> bool:
    """Return whether a sweeper of seqlab chooses the runs as it goes."""
    return sweeper in _SWEEPERS


def refuse_search(overrides: Sequence[str], sweeper: str) -> None:
    """Raise :class:`UserError` for a single run of an experiment that is a search, unless a distance is set."""
    if is_search(sweeper) and "task.sequence_length" not in map(override_key, overrides):
        raise UserError(
            f"hydra/sweeper={sweeper} searches, which takes many runs: add -m, or set task.sequence_length for one"
        )


def check_keys(node: DictConfig) -> None:
    """Check the keys of ``hydra.launcher`` and ``hydra.sweeper`` against the parameters of their classes."""
    for kind in _KINDS:
        check_plugin(f"hydra.{kind}", _container(node[kind]))


def _container(node: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def register_launcher(name: str) -> None:
    """Register a launcher; raise :class:`UserError` if the package that it needs is not installed."""
    if name not in _LAUNCHERS:
        return
    module, launcher, command = _LAUNCHERS[name]
    try:
        found = _load(module, launcher)
    except ModuleNotFoundError as error:
        raise UserError(f"hydra/launcher={name}: {error.name} is not installed; `{command}`") from error
    Plugins.instance().register(found)
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    stored.pop(f"{name}.yaml", None)  # the other package's config; seqlab's has the same name


def check_plugins(overrides: Sequence[str], sweeper: str, launcher: str) -> None:
    """Check the settings of the launcher and the sweeper before the folder of a sweep is made."""
    keys = [override_key(word) for word in overrides]
    added = any(word.startswith("+") and key.startswith("hydra.") for word, key in zip(overrides, keys, strict=True))
    changed = any(key.startswith(tuple(f"hydra.{kind}" for kind in _KINDS)) for key in keys)
    if not (added or changed) and (sweeper, launcher) == ("basic", "basic"):
        return
    node = compose_full(overrides, RunMode.MULTIRUN).hydra
    check_launcher(launcher, _container(node.launcher))
    check_keys(node)
    own = [word for word in overrides if not word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if is_search(sweeper):
        _load(*_SWEEPERS[sweeper]).check(_container(node.sweeper, resolve=True), own)
    elif sweeper != "basic":  # whose runs the plan composes
        _check_intervals(own)
        list(compose_all([first_values(own)]))


def _check_intervals(overrides: Sequence[str]) -> None:
    for each in OverridesParser.create().parse_overrides(list(overrides)):
        value = each.value()
        if isinstance(value, IntervalSweep) and not (value.start or 0) <= (value.end or 0):
            raise UserError(f"{each.input_line}: the interval ends before it starts")


def register_sweeper(sweeper: str) -> None:
    """Register a sweeper of seqlab."""
    if is_search(sweeper):
        Plugins.instance().register(_load(*_SWEEPERS[sweeper]))
    elif sweeper == "basic":
        Plugins.instance().register(_load("_sweepers", "PlannedSweeper"))


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f"hydra_plugins.seqlab_sweeps.{module}"), name)


_FRESH = {"fresh=true": True, "fresh=false": False}


def prepare(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """Check a sweep, choose its folder and write its plan.

    Args:
        arguments: overrides of the command line; ``fresh=true`` renames the folder of an earlier sweep.
    """
    overrides, fresh = _split_fresh(arguments)
    given = folder_value(overrides, "hydra.sweep.dir")
    overrides = [word for word in overrides if override_key(word) != "hydra.sweep.dir"]
    folder = given or sweep_folder(overrides)
    sweeper, launcher = chosen_plugins(overrides)
    register_launcher(launcher)
    check_plugins(overrides, sweeper, launcher)
    direction = [] if sweeper == "basic" or is_search(sweeper) else direction_overrides(overrides, sweeper)
    if fresh and (earlier := rename_old_sweep(folder)) is not None:
        print(f"the earlier sweep is now {relative_path(earlier)}", file=sys.stderr)
    plan_sweep(folder, overrides, sweeper)
    register_sweeper(sweeper)
    return [*overrides, *direction, hydra_override("hydra.sweep.dir", str(folder))], folder


def _split_fresh(arguments: Sequence[str]) -> tuple[list[str], bool]:
    for word in arguments:
        if word.partition("=")[0] == "fresh" and word not in _FRESH:
            raise UserError(f"{word}: fresh must be true or false")
    return [word for word in arguments if word not in _FRESH], any(_FRESH.get(word) for word in arguments)


@final
@dataclass
class _Progress:
    """Counts of a sweep when its ledger was last read, with the runs that this process has done since.

    ``is_open`` says that a sweeper may ask for more runs than ``total``; ``cost`` is the time of the last reading.
    """

    total: int
    is_open: bool
    read_at: float
    cost: float
    done: int = 0
    failed: int = 0
    seconds: float = 0.0

    def is_old(self) -> bool:
        """Return whether to read the ledger again, which may take a twentieth of this process's time."""
        return time.monotonic() - self.read_at > max(2.0, 20 * self.cost)

    def count(self, entry: Entry) -> None:
        """Add a run."""
        self.done += entry.state == "done"
        self.failed += entry.state == "failed"
        self.seconds += (entry.seconds or 0) if entry.state == "done" else 0


_SWEEPS: dict[Path, _Progress] = {}


def _progress(run: Path) -> _Progress:
    sweep = run.parent
    known = _SWEEPS.get(sweep)
    if known is not None and not known.is_old():
        known.count(read_entry(run))
        return known
    began = time.monotonic()
    entries, is_open = [], False
    if (sweep / SWEEP).exists():
        entries, is_open = read_entries(sweep), bool(read_plan(sweep).get("open"))
    now = time.monotonic()
    known = _SWEEPS[sweep] = _Progress(len(entries), is_open, now, now - began)
    for entry in entries:
        known.count(entry)
    return known


def progress_line(run: Path, result: Result | None) -> str:
    """Describe the result of a run of a sweep, and the progress of the sweep."""
    known = _progress(run)
    score = "failed" if result is None else f"validation {result.monitor} {format_metric(result.objective)}"
    if result is not None and (linear := linear_score(result.record, "valid")) is not None:
        score += f" (linear baseline {format_metric(linear)})"
    ended = known.done + known.failed
    line = f"run {ended}" if known.is_open else f"{ended} of {max(known.total, ended)}"
    line += f"  {run.name}  {score}" + (f"; {known.failed} failed" if known.failed else "")
    left = known.total - ended
    if known.done and left > 0 and not known.is_open:
        line += f"; about {timedelta(seconds=round(left * known.seconds / known.done))} of work left"
    return line


def finish(folder: Path) -> int:
    """Print the summary of a sweep; the exit code is 1 unless all runs are done."""
    entries = read_entries(folder)
    out = Output()
    for line in summary(entries):
        out.print_line(line)
    out.print_line(f"sweep folder  {relative_path(folder)}")
    if left := [entry for entry in entries if entry.state != "done"]:
        command = shell_command("resume", relative_path(folder))
        out.print_line(f"{len(left)} of {len(entries)} runs are not done; to resume: {command}")
    return int(bool(left))
