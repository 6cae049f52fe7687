"""A sweep's folder and plan, before its first run."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig

from seqlab.config.compose import compose_all, compose_full
from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.plugins.hydra_internals import register_resolver
from seqlab.plugins.hydra_source import Sources, run_label, sources
from seqlab.runs.ownership import LOCK, OwnedError, owned_folder
from seqlab.sweeps.key import run_key, sweep_key
from seqlab.sweeps.ledger import SWEEP, read_plan, write_plan
from seqlab.sweeps.overrides import expand, key_of

_SWEEPS = Path("runs") / "sweeps"


def first_of_each(words: Sequence[str]) -> list[str]:
    """Take the first value of each key that a sweep varies; what only the sweeper can draw is left out."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    kept: list[str] = []
    for each in OverridesParser.create().parse_overrides(list(words)):
        if not each.is_sweep_override():
            kept.append(each.input_line or "")
        elif each.is_choice_sweep() or each.is_range_sweep():
            kept.append(f"{each.key_or_group}={next(iter(each.sweep_string_iterator()))}")
    return kept


def run_name(config: DictConfig) -> str:
    """Name a run's folder: for people what cell or model it is, and the key of its config."""
    return f"{run_label(config.model.name, config.cell.name)}_{run_key(config)}"


def _run_name(_root_: DictConfig) -> str:
    return run_name(_root_)


def register() -> None:
    """Tell OmegaConf how a run's folder is called, for ``hydra.sweep.subdir``; idempotent."""
    register_resolver("run_name", _run_name)


def folder_of(words: Sequence[str]) -> Path:
    """Choose the folder of a sweep, the same one for the same words."""
    return _SWEEPS / sweep_key([*sources().words, *words])


def choices_of(words: Sequence[str]) -> tuple[str, str]:
    """Name the sweeper and the launcher that words choose, by themselves, by an experiment or by an own config.

    Returns:
        Both are ``basic`` unless they are chosen.

    Raises:
        hydra.errors.HydraException: the words cannot be composed.
    """
    node = _hydra_node(words)
    if node is None:
        return "basic", "basic"
    choices = node.runtime.choices
    return str(choices["hydra/sweeper"]), str(choices["hydra/launcher"])


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
    if added := [word for word in words if key_of(word).startswith("hydra.sweeper.params")]:
        _check_params(added[0], keys)
    told = ("hydra/sweeper", "hydra/launcher", "experiment")
    if sources() == Sources() and not any(key in told or key.startswith("hydra.sweeper") for key in keys):
        return None
    node: DictConfig = compose_full(words, RunMode.MULTIRUN).hydra
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
    write_plan(folder, [*sources().words, *words], runs, open=sweeper != "basic")


def rename_old_sweep(folder: Path) -> Path | None:
    """Give an earlier sweep's folder another name, so that its place is free; ``None`` if there is none.

    Raises:
        UserError: another process is doing a run of it.
    """
    if not (folder / SWEEP).exists():
        return None
    number = next(n for n in range(1, 10**6) if not folder.with_name(f"{folder.name}.{n}").exists())
    aside = folder.with_name(f"{folder.name}.{number}")
    with ExitStack() as own:  # nobody begins a run of it meanwhile
        for run in sorted(path.parent for path in folder.glob(f"*/{LOCK}")):
            try:
                own.enter_context(owned_folder(run))
            except OwnedError as error:
                raise UserError(
                    f"fresh=true: another process runs {relative_path(run)}; wait for its end, or set hydra.sweep.dir"
                ) from error
        return folder.rename(aside)
