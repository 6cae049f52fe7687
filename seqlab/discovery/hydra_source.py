"""Hydra's view of the plugins: the groups ``cell``, ``model``, ``task``, ... without any YAML.

A plugin is imported when Hydra loads its node, that is, when it is chosen: its name alone comes from metadata.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict

from seqlab.discovery import yamls
from seqlab.discovery.config import choices, node, targets
from seqlab.discovery.hydra_internals import register_resolver

_CONFIG_GROUPS = {
    "cell": "cell",
    "model": "model",
    "task": "task",
    "preprocessing": "preprocessing",
    "kernel": "kernel",
    "callbacks": "callback",
}
"""Hydra's group -> kind of plugin; ``callbacks`` takes a list."""


class PluginSource(ConfigSource):
    """Configs that are made from constructors on demand."""

    @staticmethod
    def scheme() -> str:
        """Name the scheme of ``seqlab://plugins``."""
        return "seqlab"

    def load_config(self, config_path: str) -> ConfigResult:
        """Import the plugin and make its node."""
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return ConfigResult(
            config=_with_defaults(_CONFIG_GROUPS[group], name),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": f"callbacks.{name}" if group == "callbacks" else None},
        )

    def available(self) -> bool:
        """Say that entry points can always be read."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Say whether this is a group of plugins."""
        return config_path.strip("/") in ("", *_CONFIG_GROUPS)

    def is_config(self, config_path: str) -> bool:
        """Say whether there is a plugin of this name."""
        group, _, name = config_path.strip("/").removesuffix(".yaml").rpartition("/")
        return group in _CONFIG_GROUPS and name in choices(_CONFIG_GROUPS[group])

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the groups, or the plugins of one."""
        group = config_path.strip("/")
        if group == "":
            return [] if results_filter == ObjectType.CONFIG else sorted(_CONFIG_GROUPS)
        if group not in _CONFIG_GROUPS or results_filter == ObjectType.GROUP:
            return []
        return sorted(choices(_CONFIG_GROUPS[group]))


def _with_defaults(kind: str, name: str) -> DictConfig:
    """Make the node; a task brings its default preprocessing and presets, which the user's choice overrides."""
    config = node(kind, name)
    if kind == "task":
        task: Any = targets(kind, name)[0]
        presets = {"preprocessing": task.preprocessing, **task.presets}
        defaults = [{f"override /{group}@_global_.{group}": choice} for group, choice in presets.items()]
        plain = OmegaConf.create({"defaults": [*defaults, "_self_"]})
        with open_dict(config):
            config["defaults"] = plain["defaults"]
    return config


OWN_LAUNCHERS = ("joblib", "slurm", "submitit_local")
"""Launchers whose config is a file of seqlab, and not that of the package that brings what they need."""
SOURCE = "command-line"
"""Hydra's name for config folders of the command line."""


@final
@dataclass(frozen=True)
class Sources:
    """Where configs are composed from.

    Attributes:
        name: of the primary config (``--config-name``).
        folders: config folders of the user (``--config-dir``), as URLs such as ``file:///home/me/conf``.
    """

    name: str = "config"
    folders: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The arguments of the command line that choose these sources; empty for seqlab's own."""
        quoted = [folder.replace("\\", "\\\\").replace('"', '\\"') for folder in self.folders]
        found = [f"hydra.searchpath=[{','.join(f'{chr(34)}{folder}{chr(34)}' for folder in quoted)}]"] if quoted else []
        return found if self.name == "config" else [f"--config-name={self.name}", *found]


_SOURCES: ContextVar[Sources] = ContextVar("sources", default=Sources())  # noqa: B039  # it is frozen


def sources() -> Sources:
    """Return where configs are composed from."""
    return _SOURCES.get()


@contextmanager
def using(chosen: Sources) -> Iterator[None]:
    """Compose every config of the block from these sources."""
    token = _SOURCES.set(chosen)
    try:
        yield
    finally:
        _SOURCES.reset(token)


class PluginSearchPath(SearchPathPlugin):
    """Adds the plugins, and the user's config folders, to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append ``seqlab://plugins`` and the folders of :func:`sources`."""
        search_path.append("seqlab", "seqlab://plugins")
        for folder in sources().folders:
            search_path.append(SOURCE, folder)


def run_label(model: str, cell: str) -> str:
    """Name a run after its cell, or after its model where that uses none."""
    (target,) = targets("model", model)
    uses_cell: bool = target.uses_cell  # type: ignore[attr-defined]  # a model has it
    return f"{model}_{cell}" if uses_cell else model


def run_time() -> str:
    """Name a run after the time and a random number, so that no two runs have one name.

    The processes that ``srun`` starts for one run name it after the job step, which they share.
    """
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    return f"{datetime.now().strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(4)}"


def epochs_of(task: str) -> int:
    """Say how many epochs a task wants."""
    (target,) = targets("task", task)
    return int(target.max_epochs)  # type: ignore[attr-defined]  # a task has it


def register() -> None:
    """Tell Hydra of the plugins; idempotent."""
    register_resolver("run_label", run_label)
    register_resolver("run_time", run_time, use_cache=True)
    register_resolver("epochs_of", epochs_of)
    Plugins.instance().register(PluginSource)
    Plugins.instance().register(PluginSearchPath)
    yamls.register()
    stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in OWN_LAUNCHERS:
        stored.pop(f"{name}.yaml", None)  # the other package's config; seqlab's has the same name
