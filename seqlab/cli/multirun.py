"""Hydra's part of a run folder."""

import logging
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seqlab.cli.commands.status import show_faults, summary
from seqlab.config.compose import compose_all, compose_full
from seqlab.errors import UserError
from seqlab.io.formatting import format_metric, relative_path
from seqlab.runs.commands import hydra_override, shell_command
from seqlab.runs.results import Result
from seqlab.sweeps.direction import direction_overrides
from seqlab.sweeps.launchers import check_launcher, check_plugin
from seqlab.sweeps.ledger import SWEEP, Entry, read_entries, read_entry, read_plan
from seqlab.sweeps.overrides import override_key
from seqlab.sweeps.plan import chosen_plugins, first_values, plan_sweep, rename_old_sweep, sweep_folder


def output_folder() -> Path:
    """Give the run folder that Hydra chose; a log file that Hydra opened there is closed, as it may be another's."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(folder):
            root.removeHandler(handler)
            handler.close()
    return folder


def write_hydra(config: DictConfig, folder: Path) -> None:
    """Write ``.hydra/``: the composed config, Hydra's own, and the overrides."""
    from hydra.core.hydra_config import HydraConfig

    from seqlab.io.atomic import write_text

    hydra_config = HydraConfig.get()
    write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))
    write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(hydra_config.overrides.task))
    write_text(folder / ".hydra" / "hydra.yaml", OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_config})))


FLAGS = ("-m", "--multirun")
_FRESH = {"fresh=true": True, "fresh=false": False}


def prepare(arguments: list[str]) -> tuple[list[str], Path]:
    """Choose the sweep's folder and write down what is asked for.

    Args:
        arguments: overrides of the command line; ``fresh=true`` puts an earlier sweep of the same words aside.

    Returns:
        The overrides for Hydra, and the folder.

    Raises:
        UserError, hydra.errors.HydraException: a run cannot be composed.
    """
    for word in arguments:
        if word.partition("=")[0] == "fresh" and word not in _FRESH:
            raise UserError(f"{word}: fresh is true or false")
    fresh = any(_FRESH.get(word, False) for word in arguments)
    words = [word for word in arguments if word not in _FRESH]
    given = [_value(word) for word in words if override_key(word) == "hydra.sweep.dir"]
    words = [word for word in words if override_key(word) != "hydra.sweep.dir"]
    folder = Path(given[-1]) if given else sweep_folder(words)
    sweeper, launcher = chosen_plugins(words)
    register_launcher([f"hydra/launcher={launcher}"])
    changed = any(word.startswith(("+hydra.", "++hydra.")) or override_key(word).startswith(_PLUGINS) for word in words)
    if changed or (sweeper, launcher) != ("basic", "basic"):
        node = compose_full(words, RunMode.MULTIRUN).hydra
        check_launcher(launcher, _plain(node.launcher))
        check_plugins(node)
    _check_sweeper(sweeper, words)
    more = [] if sweeper in ("basic", *_SWEEPERS) else direction_overrides(words, sweeper)
    if fresh and (aside := rename_old_sweep(folder)) is not None:
        print(f"the earlier sweep is now {relative_path(aside)}", file=sys.stderr)
    plan_sweep(folder, words, sweeper)
    words = [*words, *more]
    if sweeper in _SWEEPERS:
        Plugins.instance().register(_plugin(*_SWEEPERS[sweeper]))
    elif sweeper == "basic" and not any(override_key(word).startswith("hydra.sweeper.") for word in words):
        found = _plugin("_sweepers", "PlannedSweeper")
        Plugins.instance().register(found)
        words = [*words, f"hydra.sweeper._target_={found.__module__}.{found.__qualname__}"]
    return [*words, hydra_override("hydra.sweep.dir", str(folder))], folder


def check_plugins(node: DictConfig) -> None:
    """Check the keys of ``hydra.launcher`` and ``hydra.sweeper`` against what these take.

    Args:
        node: ``hydra``, composed.

    Raises:
        UserError: one has no such key.
    """
    for kind in ("launcher", "sweeper"):
        check_plugin(f"hydra.{kind}", _plain(node[kind]))


def _plain(node: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


_PLUGINS = ("hydra.sweeper", "hydra.launcher")
_SWEEPERS = {"horizon": ("_sweepers", "HorizonSweeper")}
"""Module and class of the sweepers that are imported when they are chosen."""


def _check_sweeper(sweeper: str, words: list[str]) -> None:
    """Check what a sweeper that decides as it goes is told, before the sweep's folder is made."""
    if sweeper == "basic":
        return  # the plan composes every run
    node = compose_full(words, RunMode.MULTIRUN).hydra.sweeper
    own = [word for word in words if not word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if sweeper in _SWEEPERS:
        plain = OmegaConf.to_container(node, resolve=True)
        _plugin(*_SWEEPERS[sweeper]).check(plain, own)
    else:
        _check_intervals(own)
        list(compose_all([first_values(own)]))


def _check_intervals(words: list[str]) -> None:
    for each in OverridesParser.create().parse_overrides(words):
        value = each.value()
        if isinstance(value, IntervalSweep) and not (value.start or 0) <= (value.end or 0):
            raise UserError(f"{each.input_line}: the interval ends before it starts")


def _plugin(module: str, name: str) -> Any:
    return getattr(import_module(f"hydra_plugins.seqlab_sweeps.{module}"), name)


def refuse_search(words: list[str], sweeper: str) -> None:
    """Refuse to do a single run by words whose experiment is a search, unless they say at which distance.

    Args:
        words: overrides of the command line.
        sweeper: that they choose.

    Raises:
        UserError: there is no ``-m``.
    """
    keys = [override_key(word) for word in words]
    if "task.sequence_length" not in keys and sweeper in _SWEEPERS:
        raise UserError(
            f"hydra/sweeper={sweeper} searches, which takes many runs: add -m, or set task.sequence_length for one"
        )


def _value(word: str) -> str:
    """Read the name of a folder: in quotes as Hydra does, and else as it stands, whatever Hydra would make of it."""
    value = word.partition("=")[2]
    try:
        parsed = OverridesParser.create().parse_override(word).value() if value[:1] in ("'", '"') else value
    except HydraException:
        return value
    return parsed.replace(r"\${", "${") if isinstance(parsed, str) else value


@dataclass
class _Known:
    """How far a sweep was when its ledger was last read, and the runs that this process has done since."""

    total: int
    done: int
    failed: int
    seconds: float
    read_at: float
    cost: float
    open: bool = False
    """Whether a sweeper may yet ask for more runs, so that nobody knows how many there will be."""

    def is_old(self) -> bool:
        """Whether reading it again is worth its time: a twentieth of this process's, at most."""
        return time.monotonic() - self.read_at > max(2.0, 20 * self.cost)

    def count(self, entry: Entry) -> None:
        """Add a run."""
        self.done += entry.state == "done"
        self.failed += entry.state == "failed"
        self.seconds += (entry.seconds or 0) if entry.state == "done" else 0


_KNOWN: dict[Path, _Known] = {}


def _so_far(run: Path) -> _Known:
    known = _KNOWN.get(run.parent)
    if known is None or known.is_old():
        began = time.monotonic()
        entries, more = [], False
        if (run.parent / SWEEP).exists():
            entries, more = read_entries(run.parent), bool(read_plan(run.parent).get("open"))
        now = time.monotonic()
        known = _KNOWN[run.parent] = _Known(len(entries), 0, 0, 0.0, now, now - began, more)
        for entry in entries:
            known.count(entry)
    else:
        known.count(read_entry(run))
    return known


def progress(run: Path, result: Result | None) -> str:
    """Say how one run of a sweep ended, and how far the whole is, in a line."""
    known = _so_far(run)
    what = "failed" if result is None else f"validation {result.monitor} {format_metric(result.objective)}"
    ended = known.done + known.failed
    line = f"run {ended}" if known.open else f"{ended} of {max(known.total, ended)}"
    line += f"  {run.name}  {what}"
    if known.failed:
        line += f"; {known.failed} failed"
    left = known.total - ended
    if known.done and left > 0 and not known.open:
        line += f"; about {format_duration(left * known.seconds / known.done)} of work left"
    return line


def format_duration(seconds: float) -> str:
    """Write a duration as people do."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_LAUNCHERS = {
    "joblib": ("_joblib", "JoblibLauncher", "joblib"),
    "slurm": ("_submitit", "SlurmLauncher", "slurm"),
    "submitit_local": ("_submitit", "LocalLauncher", "slurm"),
}
"""Module, class, and the extra of the distribution that brings what it needs."""


def register_launcher(words: list[str]) -> None:
    """Tell Hydra of the launcher, where one is chosen that needs another package.

    Raises:
        UserError: that is not installed.
    """
    chosen = [_value(word) for word in words if override_key(word) == "hydra/launcher"]
    if not chosen or chosen[-1] not in _LAUNCHERS:
        return
    module, name, extra = _LAUNCHERS[chosen[-1]]
    try:
        found = _plugin(module, name)
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed"
        raise UserError(f'hydra/launcher={chosen[-1]}: {missing}; `pip install "seqlab[{extra}]"`') from error
    Plugins.instance().register(found)
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    stored.pop(f"{chosen[-1]}.yaml", None)  # the other package's config; seqlab's has the same name


def finish(folder: Path) -> int:
    """Say what became of the runs; the exit code is 1 unless all are done."""
    entries = read_entries(folder)
    console = Console(highlight=False)
    console.print(summary(entries), soft_wrap=True)
    show_faults(entries, console)
    console.print(f"sweep folder  {relative_path(folder)}", soft_wrap=True)
    if left := [entry for entry in entries if entry.state != "done"]:
        again = shell_command("resume", relative_path(folder))
        console.print(f"{len(left)} of {len(entries)} runs are not done; to go on: {again}", soft_wrap=True)
    return 1 if left else 0
