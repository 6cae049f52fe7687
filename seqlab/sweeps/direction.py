"""Direction of a sweeper that optimises, set by the task's ``mode``.

A run of a sweep returns the best validation value of the task's monitored metric. Third-party sweepers
minimise by default, which for an accuracy selects the worst run.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, cast, final

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqlab.config.build import build_task
from seqlab.config.compose import compose_all, configs
from seqlab.errors import UserError
from seqlab.sweeps.ledger import read_entry
from seqlab.sweeps.overrides import expand_groups

log = logging.getLogger("seqlab")

Mode = Literal["min", "max"]
_NAMES: Mapping[str, Mode] = {"minimize": "min", "maximize": "max", "min": "min", "max": "max"}
_NAME_KEYS = ("direction", "directions", "mode")
"""Keys whose value names the direction; other values of ``mode`` than ``min`` and ``max`` have another meaning."""
_FLAG_KEYS: Mapping[str, Mode] = {"maximize": "max", "maximise": "max", "minimize": "min", "minimise": "min"}
"""Keys that are true or false, and the direction of true."""
_OTHER_NODES = ("params", "search_space", "sampler")


@final
@dataclass(frozen=True)
class Direction:
    """A key that sets a sweeper's direction, whether the command line or a config file sets it, and its direction."""

    key: str
    value: Any
    mode: Mode | None
    is_explicit: bool

    def override(self, mode: Mode) -> str:
        """Return the override that sets a direction."""
        name = self.key.rpartition(".")[2]
        if name in _FLAG_KEYS:
            return f"{self.key}={'true' if _FLAG_KEYS[name] == mode else 'false'}"
        value = mode if name == "mode" else f"{mode}imize"
        is_list = name == "directions" or isinstance(self.value, list)
        return f"{self.key}=[{value}]" if is_list else f"{self.key}={value}"


def direction_overrides(overrides: Sequence[str], sweeper: str) -> list[str]:
    """Return the overrides that make a sweeper optimise in the direction of the task.

    Raises:
        UserError: the command line or a config file sets another direction or several, or the tasks of the sweep have
            different metrics.
        hydra.errors.HydraException: the overrides cannot be composed.
    """
    found, metrics = list(directions(overrides)), sorted(_metrics(overrides))
    if not found:
        names = " and ".join(f"{monitor} ({mode})" for _, monitor, mode in metrics)
        log.warning(f"hydra/sweeper={sweeper} has no known key for its direction: runs return validation {names}")
        return []
    if len({metric[1:] for metric in metrics}) > 1:
        listed = "; ".join(f"task={task} has {monitor} ({mode})" for task, monitor, mode in metrics)
        raise UserError(f"hydra/sweeper={sweeper} optimises one metric, but the tasks differ: {listed}; sweep one task")
    task, monitor, mode = metrics[0]
    for each in found:
        if each.is_explicit and each.mode not in (None, mode):
            raise UserError(
                f"{each.key} must be {each.override(mode).partition('=')[2]} for task={task}, whose validation"
                f" {monitor} is better when {'larger' if mode == 'max' else 'smaller'}, got {_text(each.value)};"
                " leave it out to have it set by the task"
            )
    return [each.override(mode) for each in found if each.mode != mode]


def directions(overrides: Sequence[str]) -> Iterator[Direction]:
    """Yield the keys of the chosen sweeper that set its direction."""
    with configs():
        loader: Any = GlobalHydra.instance().config_loader()
        composed = loader.load_configuration("config", list(overrides), RunMode.MULTIRUN)
        node = OmegaConf.to_container(composed.hydra.sweeper, resolve=False)
        parsed, files = loader._parse_overrides_and_create_caching_repo("config", list(overrides))
        chosen = loader.compute_defaults_list("config", list(overrides), RunMode.MULTIRUN).defaults
        loaded = [loader._load_single_config(each, files) for each in chosen]
    typed = {str(each.key_or_group) for each in parsed} - {"hydra"}
    # Configs registered in code hold defaults; those in files were written by the user.
    written = [each.config for each in loaded if not str(each.path).startswith("structured:")]
    for key, value in _walk(node, "hydra.sweeper"):
        in_file = any(OmegaConf.select(config, key, throw_on_missing=False) is not None for config in written)
        is_typed = any(key == each or key.startswith(f"{each}.") for each in typed)
        yield Direction(key, value, _mode(key, value), in_file or is_typed)


def missing_value_cause(folder: Path, sweeper: Mapping[str, Any] | DictConfig) -> str | None:
    """Return why a run has no value for a sweeper that optimises; ``None`` for any other sweeper."""
    node = OmegaConf.to_container(sweeper, resolve=False) if isinstance(sweeper, DictConfig) else sweeper
    if not any(True for _ in _walk(node, "hydra.sweeper")):
        return None
    entry = read_entry(folder)
    return f"{folder.name} has no validation score: {entry.cause or entry.state}"


def _walk(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        is_other_mode = key == "mode" and value not in ("min", "max")
        if (key in _FLAG_KEYS and isinstance(value, bool | None)) or (key in _NAME_KEYS and not is_other_mode):
            yield f"{place}.{key}", value
        elif key not in _OTHER_NODES:
            yield from _walk(value, f"{place}.{key}")


def _mode(key: str, value: Any) -> Mode | None:
    name = key.rpartition(".")[2]
    if value is None:
        return None
    if name in _FLAG_KEYS:
        positive = _FLAG_KEYS[name]
        return positive if value else ("min" if positive == "max" else "max")
    values = value if isinstance(value, list) else [value]
    if len(values) != 1:
        raise UserError(f"{key} has {len(values)} directions, {_text(value)}; a run returns one value")
    if (text := _text(values[0])) not in _NAMES:
        raise UserError(f"{key} must be maximize or minimize, got {text}")
    return _NAMES[text]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value.name if isinstance(value, Enum) else value).lower()


def _metrics(overrides: Sequence[str]) -> set[tuple[str, str, Mode]]:
    """Return name, monitored metric and mode of each task of a sweep."""
    found: set[tuple[str, str, Mode]] = set()
    for config in compose_all(expand_groups(overrides, ("task", "experiment"))):
        node = OmegaConf.to_container(config.task, resolve=True, enum_to_str=True)
        task = build_task(cast(dict[str, Any], node))
        found.add((str(config.task.name), task.monitor, task.mode))
    return found
