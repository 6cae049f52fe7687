"""Direction of a sweeper that optimises: set by the task's ``mode``, and never against it.

A run of a sweep returns the best validation value of the task's monitored metric. Whether that is to be large or small
is the task's to say. Third-party sweepers have a key for it whose default is to minimise, which for an accuracy selects
the worst run.
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
from seqlab.sweeps.ledger import entry_of
from seqlab.sweeps.overrides import alternatives

log = logging.getLogger("seqlab")

Mode = Literal["min", "max"]
_NAMED = ("direction", "directions", "mode")
"""Keys whose value names the direction; of ``mode``, only ``min`` and ``max`` do."""
_FLAGS: Mapping[str, Mode] = {"maximize": "max", "maximise": "max", "minimize": "min", "minimise": "min"}
"""Keys that are true or false, and what true means."""
_NO_SETTINGS = ("params", "search_space", "sampler")


@final
@dataclass(frozen=True)
class Direction:
    """A key by which a sweeper takes its direction.

    Attributes:
        key: from the root of the config.
        value: as composed.
        mode: what the value means; ``None`` where it is not set.
        is_said: whether the command line or a config file sets it, and not the sweeper's own default.
    """

    key: str
    value: Any
    mode: Mode | None
    is_said: bool

    def set_to(self, mode: Mode) -> str:
        """Return the override that sets it."""
        name = self.key.rpartition(".")[2]
        if name in _FLAGS:
            return f"{self.key}={'true' if _FLAGS[name] == mode else 'false'}"
        word = mode if name == "mode" else f"{mode}imize"
        return f"{self.key}=[{word}]" if name == "directions" or isinstance(self.value, list) else f"{self.key}={word}"


def with_direction(words: Sequence[str], sweeper: str) -> list[str]:
    """Return the overrides that make a sweeper optimise in the direction of the task.

    Args:
        words: the sweep's overrides.
        sweeper: the name of the chosen one.

    Raises:
        UserError: the command line or a config file asks for the other direction, or for several, or the sweep has
            tasks of several metrics.
        hydra.errors.HydraException: the words cannot be composed.
    """
    found = list(directions(words))
    goals = _goals(words)
    if not found:
        what = " and ".join(f"{monitor} ({mode})" for _, monitor, mode in sorted(goals))
        log.warning(
            f"hydra/sweeper={sweeper} has no key for its direction that is known: runs return validation {what}"
        )
        return []
    if len({goal[1:] for goal in goals}) > 1:
        each = "; ".join(f"task={task} has {monitor} ({mode})" for task, monitor, mode in sorted(goals))
        raise UserError(f"hydra/sweeper={sweeper} optimises one metric, and the tasks differ: {each}; sweep one task")
    task, monitor, mode = next(iter(goals))
    wrong = [each for each in found if each.is_said and each.mode not in (None, mode)]
    if wrong:
        raise UserError(
            f"{wrong[0].key} must be {wrong[0].set_to(mode).partition('=')[2]} for task={task}, whose validation"
            f" {monitor} is better when {'larger' if mode == 'max' else 'smaller'}, got {_shown(wrong[0].value)};"
            " leave it out to have it set by the task"
        )
    return [each.set_to(mode) for each in found if each.mode != mode]


def directions(words: Sequence[str]) -> Iterator[Direction]:
    """Find the keys of the chosen sweeper that set its direction.

    Args:
        words: the sweep's overrides.

    Raises:
        UserError: one of them names several directions, or none that is known.
        hydra.errors.HydraException: the words cannot be composed.
    """
    with configs():
        loader: Any = GlobalHydra.instance().config_loader()
        composed = loader.load_configuration("config", list(words), RunMode.MULTIRUN)
        node = OmegaConf.to_container(composed.hydra.sweeper, resolve=False)
        parsed, files = loader._parse_overrides_and_create_caching_repo("config", list(words))
        chosen = loader.compute_defaults_list("config", list(words), RunMode.MULTIRUN).defaults
        loaded = [loader._load_single_config(each, files) for each in chosen]
    typed = {str(each.key_or_group) for each in parsed}
    # What is registered in code is a default; what stands in a file, somebody has written.
    written = [each.config for each in loaded if not str(each.path).startswith("structured:")]
    for key, value in _walk(node, "hydra.sweeper"):
        in_file = any(OmegaConf.select(config, key, throw_on_missing=False) is not None for config in written)
        in_words = any(key == each or key.startswith(f"{each}.") for each in typed if each != "hydra")
        yield Direction(key, value, _meaning(key, value), in_file or in_words)


def no_value(folder: Path, sweeper: Mapping[str, Any] | DictConfig) -> str | None:
    """Say why a run has no value for a sweeper that optimises; ``None`` for any other sweeper.

    Args:
        folder: of the run.
        sweeper: the node ``hydra.sweeper``.
    """
    node = OmegaConf.to_container(sweeper, resolve=False) if isinstance(sweeper, DictConfig) else sweeper
    if not any(True for _ in _walk(node, "hydra.sweeper")):
        return None
    entry = entry_of(folder)
    return f"{folder.name} has no validation score: {entry.cause or entry.state}"


def _walk(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        is_mode = key == "mode" and value not in ("min", "max")
        if (key in _FLAGS and isinstance(value, bool | None)) or (key in _NAMED and not is_mode):
            yield f"{place}.{key}", value
        elif key not in _NO_SETTINGS:
            yield from _walk(value, f"{place}.{key}")


def _meaning(key: str, value: Any) -> Mode | None:
    name = key.rpartition(".")[2]
    if value is None:
        return None
    if name in _FLAGS:
        positive = _FLAGS[name]
        return positive if value else ("min" if positive == "max" else "max")
    named = [
        str(each.name if isinstance(each, Enum) else each) for each in (value if isinstance(value, list) else [value])
    ]
    if len(named) != 1:
        raise UserError(f"{key} has {len(named)} directions, {_shown(value)}; a run returns one value")
    meaning: dict[str, Mode] = {"minimize": "min", "maximize": "max", "min": "min", "max": "max"}
    if named[0].lower() not in meaning:
        raise UserError(f"{key} must be maximize or minimize, got {named[0]}")
    return meaning[named[0].lower()]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value.name if isinstance(value, Enum) else value).lower()


def _goals(words: Sequence[str]) -> set[tuple[str, str, Mode]]:
    """Return name, monitored metric and mode of each task that a sweep may choose."""
    found: set[tuple[str, str, Mode]] = set()
    for config in compose_all(alternatives(words, ("task", "experiment"))):
        node = OmegaConf.to_container(config.task, resolve=True, enum_to_str=True)
        task = build_task(cast(dict[str, Any], node))
        found.add((str(config.task.name), task.monitor, task.mode))
    return found
