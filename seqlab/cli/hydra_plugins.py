"""Hydra's launchers and sweepers: registration of those that are imported on demand, and checks of their keys."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqlab.config.compose import compose_all, compose_full
from seqlab.errors import UserError
from seqlab.sweeps.launchers import check_launcher, check_plugin
from seqlab.sweeps.overrides import override_key
from seqlab.sweeps.plan import first_values

_KINDS = ("launcher", "sweeper")
_SWEEPERS = {"horizon": ("_sweepers", "HorizonSweeper")}
"""Module and class of the sweepers of seqlab."""
_LAUNCHERS = {
    "joblib": ("_joblib", "JoblibLauncher", "joblib"),
    "slurm": ("_submitit", "SlurmLauncher", "slurm"),
    "submitit_local": ("_submitit", "LocalLauncher", "slurm"),
}
"""Module, class, and the extra of seqlab that brings what the launcher needs."""


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
        check_plugin(f"hydra.{kind}", _plain(node[kind]))


def _plain(node: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def register_launcher(name: str) -> None:
    """Register a launcher; raise :class:`UserError` if the package that it needs is not installed."""
    if name not in _LAUNCHERS:
        return
    module, launcher, extra = _LAUNCHERS[name]
    try:
        found = _load(module, launcher)
    except ModuleNotFoundError as error:
        raise UserError(
            f'hydra/launcher={name}: {error.name} is not installed; `pip install "seqlab[{extra}]"`'
        ) from error
    Plugins.instance().register(found)
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    stored.pop(f"{name}.yaml", None)  # the other package's config; seqlab's has the same name


def check_plugins(overrides: Sequence[str], sweeper: str, launcher: str) -> None:
    """Check the settings of the launcher and the sweeper before the folder of a sweep is made.

    Raises:
        UserError, hydra.errors.HydraException: a setting is wrong.
    """
    keys = [override_key(word) for word in overrides]
    added = any(word.startswith("+") and key.startswith("hydra.") for word, key in zip(overrides, keys, strict=True))
    changed = any(key.startswith(tuple(f"hydra.{kind}" for kind in _KINDS)) for key in keys)
    if not (added or changed) and (sweeper, launcher) == ("basic", "basic"):
        return
    node = compose_full(overrides, RunMode.MULTIRUN).hydra
    check_launcher(launcher, _plain(node.launcher))
    check_keys(node)
    own = [word for word in overrides if not word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if is_search(sweeper):
        _load(*_SWEEPERS[sweeper]).check(_plain(node.sweeper, resolve=True), own)
    elif sweeper != "basic":  # whose runs the plan composes
        _check_intervals(own)
        list(compose_all([first_values(own)]))


def _check_intervals(overrides: Sequence[str]) -> None:
    for each in OverridesParser.create().parse_overrides(list(overrides)):
        value = each.value()
        if isinstance(value, IntervalSweep) and not (value.start or 0) <= (value.end or 0):
            raise UserError(f"{each.input_line}: the interval ends before it starts")


def register_sweeper(sweeper: str, overrides: Sequence[str]) -> list[str]:
    """Register a sweeper of seqlab; return the overrides that choose it in place of Hydra's basic sweeper."""
    if is_search(sweeper):
        Plugins.instance().register(_load(*_SWEEPERS[sweeper]))
    elif sweeper == "basic" and not any(override_key(word).startswith("hydra.sweeper.") for word in overrides):
        found = _load("_sweepers", "PlannedSweeper")
        Plugins.instance().register(found)
        return [f"hydra.sweeper._target_={found.__module__}.{found.__qualname__}"]
    return []


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f"hydra_plugins.seqlab_sweeps.{module}"), name)
