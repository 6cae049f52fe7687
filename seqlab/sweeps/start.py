"""A sweep's folder and plan, before its first run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqlab.discovery.hydra_source import run_label
from seqlab.errors import UserError
from seqlab.sweeps.expansion import expand, key_of
from seqlab.sweeps.key import run_key, sweep_key
from seqlab.sweeps.ledger import SWEEP, read_plan, write_plan
from seqlab.training.compose import compose_all, configs

_SWEEPS = Path("runs") / "sweeps"


def run_name(config: DictConfig) -> str:
    """Name a run's folder: for people what cell or model it is, and the key of its config."""
    return f"{run_label(config.model.name, config.cell.name)}_{run_key(config)}"


def _run_name(_root_: DictConfig) -> str:
    return run_name(_root_)


def register() -> None:
    """Tell OmegaConf how a run's folder is called, for ``hydra.sweep.subdir``; idempotent."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)


def folder_of(words: Sequence[str]) -> Path:
    """Choose the folder of a sweep, the same one for the same words."""
    return _SWEEPS / sweep_key(words)


def sweeper_of(words: Sequence[str]) -> str:
    """Name the sweeper that words choose, by themselves or by an experiment: ``basic`` unless they do.

    Raises:
        hydra.errors.HydraException: the words cannot be composed.
    """
    node = _hydra_node(words)
    return "basic" if node is None else str(node.runtime.choices["hydra/sweeper"])


def params_of(words: Sequence[str]) -> dict[str, Any]:
    """Return ``hydra.sweeper.params``: overrides that a config adds to those of the command line.

    Raises:
        hydra.errors.HydraException: the words cannot be composed.
    """
    node = _hydra_node(words)
    return {} if node is None else {str(key): value for key, value in (node.sweeper.get("params") or {}).items()}


def _hydra_node(words: Sequence[str]) -> DictConfig | None:
    """Compose Hydra's own node, unless nothing in the words can change how a sweep is made."""
    keys = [key_of(word) for word in words]
    if not any(key in ("hydra/sweeper", "experiment") or key.startswith("hydra.sweeper") for key in keys):
        return None
    if added := [word for word in words if key_of(word).startswith("hydra.sweeper.params")]:
        _check_params(added[0], keys)
    with configs():
        loader = GlobalHydra.instance().config_loader()
        node: DictConfig = loader.load_configuration("config", list(words), RunMode.MULTIRUN).hydra
        return node


def _check_params(word: str, keys: Sequence[str]) -> None:
    """Refuse what the config of Hydra's basic sweeper cannot take, which ends in an error of OmegaConf.

    Raises:
        UserError: the basic sweeper is chosen.
    """
    if "hydra/sweeper" not in keys and "experiment" not in keys:
        key, _, value = word.partition("=")
        name = key_of(key).removeprefix("hydra.sweeper.params").lstrip(".")
        instead = f"write {name}={value}" if name else "write KEY=VALUE,VALUE"
        raise UserError(f"{key}: hydra.sweeper.params belongs into a config file; on the command line {instead}")


def plan(folder: Path, words: Sequence[str], sweeper: str = "basic") -> None:
    """Write down the runs that a sweep asks for; where a sweeper decides as it goes, those decided before are kept.

    Raises:
        hydra.errors.HydraException, UserError: a run cannot be composed.
    """
    runs: dict[str, list[str]] = {}
    if sweeper == "basic":
        expanded = expand(words, params_of(words))
        for each, config in zip(expanded, compose_all(expanded), strict=True):
            runs.setdefault(run_name(config), each)
    elif (folder / SWEEP).is_file():
        runs = {run["name"]: run["words"] for run in read_plan(folder)["runs"]}
    write_plan(folder, words, runs, open=sweeper != "basic")


def set_aside(folder: Path) -> Path | None:
    """Give an earlier sweep's folder another name, so that its place is free; ``None`` if there is none."""
    if not (folder / SWEEP).exists():
        return None
    number = next(n for n in range(1, 10**6) if not folder.with_name(f"{folder.name}.{n}").exists())
    return folder.rename(folder.with_name(f"{folder.name}.{number}"))
