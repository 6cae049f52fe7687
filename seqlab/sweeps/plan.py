"""Keys and folders of runs and sweeps, the plan of a sweep before its first run, and the selection of runs."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_ledger import identity
from hydra_ledger.selection import is_selected, selecting
from seqlab.config.compose import compose_all, compose_full
from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.plugins import find
from seqlab.plugins.config import added_options
from seqlab.plugins.hydra_internals import register_resolver
from seqlab.plugins.hydra_source import Sources, run_label, sources
from seqlab.runs.ownership import LOCK, OwnedError, owned_folder
from seqlab.sweeps.ledger import SWEEP, read_plan, write_plan
from seqlab.sweeps.overrides import expand, override_key

__all__ = [
    "ADDED_KEYS", "check_resumed", "chosen_plugins", "first_values", "is_selected", "plan_sweep", "register_run_name",
    "rename_old_sweep", "run_key", "run_name", "selecting", "sweep_folder", "sweep_key", "sweeper_params",
]  # fmt: skip

_NOT_IN_RUN_KEY = ("hydra", "logger", "ckpt_path")
_NOT_IN_GROUP_KEY = {"data": ("allow_change",), "trainer": ("progress", "profiler", "checkpoint_minutes")}
ADDED_KEYS: Mapping[str, Mapping[str, Any]] = {
    "data": {"duplicates": "keep", "tokens_per_batch": None},
    "model": {"checkpoint_steps": "auto", "block": "plain", "conv": 0},
    "optimizer": {"recurrent_lr": None},
    "trainer": {"max_minutes": None, "replicas": 1},
    "task": {
        "quoting": "auto", "header": "auto", "encoding": "utf-8", "baseline": "linear",
        "lengths": "fixed", "min_length": None, "start_length": None, "growth": 1.5, "patience": 1, "check_every": 50,
        "eval_multiples": [],
    },
}  # fmt: skip
"""Keys added by later versions, with the values at which a run computes what it did before and keeps its key."""
_NOT_IN_SWEEP_KEY = (
    "hydra.", "hydra/", "logger", "trainer.progress", "trainer.profiler", "trainer.checkpoint_minutes",
    "data.allow_change",
)  # fmt: skip
_IN_SWEEP_KEY = ("hydra.sweeper.", "hydra/sweeper", "hydra.searchpath")
_GROUPING = "hydra.sweeper.group_replicas"
"""Says how the runs are trained, not which."""
_PLUGIN_GROUPS = ("cell", "model", "task", "preprocessing", "kernel")


def run_key(config: Mapping[Any, Any] | DictConfig) -> str:
    """Return the key of a run: a hash of its config and of the versions of its plugins.

    Where files go, the logger and how often checkpoints are saved do not matter.
    """
    values = {str(key): _plain(config[key]) for key in config if key not in _NOT_IN_RUN_KEY}
    for group, keys in _NOT_IN_GROUP_KEY.items():
        values[group] = {key: value for key, value in values[group].items() if key not in keys}
    for group, added in ADDED_KEYS.items():
        values[group] = {key: value for key, value in values[group].items() if added.get(key, ...) != value}
    for kind in _PLUGIN_GROUPS:
        if isinstance(node := values.get(kind), Mapping) and "name" in node:
            added = added_options(kind, str(node["name"]))
            values[kind] = {key: value for key, value in node.items() if added.get(key, ...) != value}
    return identity.digest([values, {kind: _version(kind, values.get(kind)) for kind in _PLUGIN_GROUPS}])


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True, enum_to_str=True) if OmegaConf.is_config(value) else value


def _version(kind: str, node: Any) -> str | None:
    if not isinstance(node, Mapping) or "name" not in node:
        return None
    try:
        plugin = find(kind, str(node["name"]))
    except UserError:  # kernel=auto is no plugin
        return None
    return f"{plugin.distribution} {plugin.version}"


def _matters(override: str) -> bool:
    """Return whether an override says what a sweep computes, and not where and how it runs."""
    bare = override.lstrip("+~")
    is_how = override_key(override) == _GROUPING or (
        bare.startswith(_NOT_IN_SWEEP_KEY) and not bare.startswith(_IN_SWEEP_KEY)
    )
    return not is_how


def sweep_key(overrides: Iterable[str]) -> str:
    """Return the key of a sweep: a hash of its overrides in any order, without those that say where and how it runs."""
    return identity.sweep_key(overrides, _matters)


def check_resumed(folder: Path, original: Sequence[str], resumed: Sequence[str]) -> None:
    """Refuse to resume a sweep by a command that asks for other runs.

    Settings of the launcher and of the sweeper, such as its number of trials, may change.

    Raises:
        UserError: it does.
    """

    def matters(override: str) -> bool:
        return _matters(override) and not override_key(override).startswith("hydra.")

    if (found := identity.override_difference(original, resumed, matters)) is not None:
        raise UserError(
            f"{relative_path(folder)} is another sweep: {found}; leave that out, or start a sweep of its own:"
            " python -m seqlab -m ..."
        )


def run_name(config: DictConfig) -> str:
    """Return the name of a run's folder: its model or cell, and its key."""
    return f"{run_label(config.model.name, config.cell.name)}_{run_key(config)}"


def register_run_name() -> None:
    """Register the resolver ``${run_name:}`` of ``hydra.sweep.subdir``; idempotent."""
    register_resolver("run_name", lambda _root_: run_name(_root_))


def sweep_folder(overrides: Sequence[str]) -> Path:
    """Return the folder of a sweep, which is the same for the same overrides."""
    return Path("runs") / "sweeps" / sweep_key([*sources().arguments, *overrides])


def first_values(overrides: Sequence[str]) -> list[str]:
    """Return overrides with the first value of each sweep, without keys whose values a sweeper samples."""
    kept: list[str] = []
    for each in OverridesParser.create().parse_overrides(list(overrides)):
        if not each.is_sweep_override():
            kept.append(each.input_line or "")
        elif each.is_choice_sweep() or each.is_range_sweep():
            kept.append(f"{each.key_or_group}={next(iter(each.sweep_string_iterator()))}")
    return kept


def chosen_plugins(overrides: Sequence[str]) -> tuple[str, str]:
    """Return the names of the chosen sweeper and launcher, both ``basic`` by default."""
    node = _hydra_node(overrides)
    if node is None:
        return "basic", "basic"
    choices = node.runtime.choices
    return str(choices["hydra/sweeper"]), str(choices["hydra/launcher"])


def sweeper_params(overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``hydra.sweeper.params``: overrides that a config adds to those of the command line."""
    node = _hydra_node(overrides)
    return {} if node is None else {str(key): value for key, value in (node.sweeper.get("params") or {}).items()}


def _hydra_node(overrides: Sequence[str]) -> DictConfig | None:
    """Compose Hydra's own node; ``None`` if no override can change it."""
    keys = list(map(override_key, overrides))
    for key, override in zip(keys, overrides, strict=True):
        # OmegaConf fails for a key that the config of the basic sweeper does not have.
        if key.startswith("hydra.sweeper.params") and not {"hydra/sweeper", "experiment"} & set(keys):
            typed, _, value = override.partition("=")
            name = key.removeprefix("hydra.sweeper.params").lstrip(".")
            instead = f"write {name}={value}" if name else "write KEY=VALUE,VALUE"
            raise UserError(f"{typed}: hydra.sweeper.params belongs into a config file; on the command line {instead}")
    choosing = ("hydra/sweeper", "hydra/launcher", "experiment")
    if sources() == Sources() and not any(key in choosing or key.startswith("hydra.sweeper") for key in keys):
        return None
    node: DictConfig = compose_full(overrides, RunMode.MULTIRUN).hydra
    return node


def plan_sweep(folder: Path, overrides: Sequence[str], sweeper: str = "basic") -> None:
    """Write the runs of a sweep to its plan; another sweeper than the basic one adds its runs later."""
    runs: dict[str, list[str]] = {}
    if sweeper == "basic":
        expanded = expand(overrides, sweeper_params(overrides))
        for each, config in zip(expanded, compose_all(expanded), strict=True):
            runs.setdefault(run_name(config), each)
    elif (folder / SWEEP).is_file():
        runs = {run["name"]: run["words"] for run in read_plan(folder)["runs"]}
    write_plan(folder, [*sources().arguments, *overrides], runs, open=sweeper != "basic")


def rename_old_sweep(folder: Path) -> Path | None:
    """Rename the folder of an earlier sweep to ``<name>.1`` or the next free number; ``None`` if there is none."""
    if not (folder / SWEEP).exists():
        return None
    number = next(n for n in range(1, 10**6) if not folder.with_name(f"{folder.name}.{n}").exists())
    with ExitStack() as locks:  # no other process may start a run meanwhile
        for run in sorted(path.parent for path in folder.glob(f"*/{LOCK}")):
            try:
                locks.enter_context(owned_folder(run))
            except OwnedError as error:
                raise UserError(
                    f"fresh=true: another process runs {relative_path(run)}; wait for its end, or set hydra.sweep.dir"
                ) from error
        return folder.rename(folder.with_name(f"{folder.name}.{number}"))
