"""Defaults of other config keys that the chosen task proposes: resolvers of the config's interpolations."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from seqlab.plugins.config import RESERVED, node, plugin_classes
from seqlab.plugins.hydra_internals import register_resolver

if TYPE_CHECKING:
    from seqlab.contracts.task import TaskDefaults

RESOLVER = "task_default"
"""Name of the resolver of :func:`task_default`."""


def defaults_of(task: str) -> "TaskDefaults":
    """Return the class-level settings of a task."""
    from seqlab.contracts.task import task_defaults  # which imports torch

    (target,) = plugin_classes("task", task)
    return task_defaults(target)


def epochs_of(task: str) -> int | str:
    """Return a task's default number of epochs; ``auto`` for a task with a least number of updates."""
    defaults = defaults_of(task)
    return "auto" if defaults.min_updates else defaults.max_epochs


def batch_size_of(task: str, default: int) -> int | str:
    """Return the default batch size; ``auto`` for a task with a least number of updates."""
    return "auto" if defaults_of(task).min_updates else default


def link_options(kind: str, name: str, config: DictConfig) -> None:
    """Replace the defaults that a task may choose, in the node of a model or preprocessor, by interpolations."""
    for target in plugin_classes(kind, name):
        for option in target.from_task:  # type: ignore[attr-defined]  # a model or preprocessor has it
            config[option] = f"${{{RESOLVER}:{kind}.{option}}}"


def task_default(key: str, *fallback: Any, _root_: DictConfig) -> Any:
    """Return the default of a config key: that of the task, or else ``fallback``, or else the plugin's own."""
    proposed = _proposals(_root_)
    if key in proposed:
        return proposed[key]
    if fallback:
        return fallback[0]
    kind, _, option = key.partition(".")
    own: Any = OmegaConf.to_container(node(kind, _root_[kind][RESERVED]))
    return own[option]


def chosen_by_task(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a composed config that the task chose, by key; none of plain values, where that is lost.

    A key that was set, if only to the same value, is not among them.
    """
    if not isinstance(config, DictConfig):
        return {}
    return {key: value for key, value in _proposals(config).items() if _is_open(config, key)}


def _proposals(config: DictConfig) -> Mapping[str, Any]:
    task, model = config.get("task"), config.get("model")
    if task is None:
        return {}
    defaults = defaults_of(task[RESERVED])
    proposed = {} if model is None else defaults.of_model.get(model[RESERVED], {})
    public = defaults.of_source.get(task.get("source"), {}) if task.get("data") is None else {}
    return {**proposed, **public}


def _is_open(config: DictConfig, key: str) -> bool:
    """Return whether a key still has the interpolation that asks the task."""
    group, _, option = key.partition(".")
    chosen = config.get(group)
    if not isinstance(chosen, DictConfig):
        return False
    plain: Any = OmegaConf.to_container(chosen, resolve=False)  # without the option where the plugin has none
    return re.match(rf"\$\{{{RESOLVER}:{re.escape(key)}[,}}]", str(plain.get(option))) is not None


def register() -> None:
    """Register the resolvers; idempotent."""
    register_resolver("epochs_of", epochs_of)
    register_resolver("batch_size_of", batch_size_of)
    register_resolver(RESOLVER, task_default)
