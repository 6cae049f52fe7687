"""Hydra config sources: plugins, and YAML files of bounded size that lie in their folder."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, final

import yaml  # type: ignore[import-untyped]  # PyYAML, which OmegaConf brings, has no types
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import KeyValidationError, OmegaConfBaseException

from seqlab.errors import UserError, one_line
from seqlab.io.safe_io import read_bytes
from seqlab.plugins import hydra_internals, task_defaults
from seqlab.plugins.config import choices, node, plugin_classes
from seqlab.plugins.hydra_internals import register_resolver
from seqlab.plugins.signature import format_value

_TAGS = (None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")))
_LARGEST, _DEEPEST, _MOST_VALUES = 2**18, 64, 50_000


def read_yaml(path: Path, *, aliases: bool) -> str:
    """Return the text of a YAML file that does not expand to more values than a config has."""
    try:
        text = read_bytes(path, _LARGEST).decode("utf-8-sig")
        _check_depth(text)
        _check_events(text, aliases=aliases)
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {one_line(error)[:200]}") from error
    return text


def _check_depth(text: str) -> None:
    """Check the depth before parsing, which takes quadratic time in it."""
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _check_events(text: str, *, aliases: bool) -> None:
    """Check tags, depth and the number of values with all aliases expanded."""
    counts: dict[str, int] = {}
    unclosed: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        anchor, count = getattr(event, "anchor", None), 0
        if (tag := getattr(event, "tag", None)) not in _TAGS:
            raise ValueError(f"it has the tag {str(tag)[:80]!a}, which may construct a Python object")
        if isinstance(event, yaml.CollectionStartEvent):
            unclosed.append((anchor, 1))
            if len(unclosed) > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, count = unclosed.pop()
        elif isinstance(event, yaml.AliasEvent):
            if not aliases or anchor not in counts:
                raise ValueError("it has an alias (*name); repeat the value instead")
            anchor, count = None, counts[str(anchor)]
        elif isinstance(event, yaml.ScalarEvent):
            count = 1
        if anchor is not None and count:
            counts[anchor] = count
        outer, before = unclosed[-1]
        unclosed[-1] = (outer, before + count)
        if before + count > _MOST_VALUES:
            raise ValueError(f"it expands to more than {_MOST_VALUES:,} values")


class _Contained(ConfigSource):
    """A source of files that does not follow a config's name out of its folder, as ``experiment=../../evil`` does."""

    def is_config(self, config_path: str) -> bool:
        """Return whether there is such a file in the folder."""
        return _is_inside(config_path) and super().is_config(config_path)  # type: ignore[safe-super]  # of the next base

    def is_group(self, config_path: str) -> bool:
        """Return whether there is such a folder in the folder."""
        return _is_inside(config_path) and super().is_group(config_path)  # type: ignore[safe-super]  # of the next base


def _is_inside(config_path: str) -> bool:
    return ".." not in config_path.replace("\\", "/").split("/") and not config_path.startswith("/")


class ImportlibResourcesConfigSource(_Contained, hydra_internals.ImportlibResourcesConfigSource):
    """The files of a package, such as seqlab's own."""


class FileConfigSource(_Contained, hydra_internals.FileConfigSource):
    """The files of a config folder, read by :func:`read_yaml`."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file after its YAML is checked."""
        path = Path(self.path, self._normalize_file_name(config_path))
        text = read_yaml(path, aliases=True)
        try:
            header = self._get_header_dict(text)
            config = None if _is_scalar(text) else OmegaConf.create(text)
        except KeyValidationError:  # its message names Python types
            raise UserError(f"{path}: a key is not a string; put a name in quotes") from None
        except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            raise UserError(f"{path} is not valid YAML: {one_line(error)[:200]}") from error
        if not isinstance(config, DictConfig):
            raise UserError(f"{path} must be a mapping of keys to values, such as trainer: {{max_epochs: 3}}")
        _check_keys(OmegaConf.to_container(config, resolve=False), path)
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(provider=self.provider, path=place, config=config, header=header)


def _check_keys(node: Any, path: Path) -> None:
    """Check the keys of a file, and its defaults list."""
    for key, value in node.items():
        if not isinstance(key, str):
            raise UserError(f"{path}: {format_value(key)} is not a key; put a name in quotes")
        if isinstance(value, dict):
            _check_keys(value, path)
    given = node.get("defaults", [])
    if "defaults" in node and not (isinstance(given, list) and all(isinstance(each, str | dict) for each in given)):
        raise UserError(
            f"{path}: defaults must be a list, such as [override /cell: gru, _self_], got {format_value(given)}"
        )


def _is_scalar(text: str) -> bool:
    """Return whether a YAML text is one value, which OmegaConf would make a mapping of."""
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    return isinstance(next((each for each in events if isinstance(each, yaml.NodeEvent)), None), yaml.ScalarEvent)


_CONFIG_GROUPS = {
    "cell": "cell",
    "model": "model",
    "task": "task",
    "preprocessing": "preprocessing",
    "kernel": "kernel",
    "callbacks": "callback",
}
"""The kind of plugin of each Hydra group; ``callbacks`` takes a list."""


class PluginSource(ConfigSource):
    """Config nodes of the plugins, from the signatures of their constructors."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of ``seqlab://plugins``."""
        return "seqlab"

    def load_config(self, config_path: str) -> ConfigResult:
        """Import the plugin and return its node."""
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return ConfigResult(
            config=_with_defaults(_CONFIG_GROUPS[group], name),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": f"callbacks.{name}" if group == "callbacks" else None},
        )

    def available(self) -> bool:
        """Return true: entry points can always be read."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return whether this is a group of plugins."""
        return config_path.strip("/") in ("", *_CONFIG_GROUPS)

    def is_config(self, config_path: str) -> bool:
        """Return whether there is a plugin of this name."""
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
    """Return the node, of a task with its preprocessing and presets as defaults, which the user's choice overrides."""
    config = node(kind, name)
    if kind == "task":
        settings = task_defaults.defaults_of(name)
        presets = {"preprocessing": settings.preprocessing, **settings.presets}
        defaults = [{f"override /{group}@_global_.{group}": choice} for group, choice in presets.items()]
        plain = OmegaConf.create({"defaults": [*defaults, "_self_"]})
        with open_dict(config):
            config["defaults"] = plain["defaults"]
    elif kind in ("model", "preprocessing"):
        task_defaults.link_options(kind, name, config)
    return config


OWN_LAUNCHERS = ("joblib", "ray", "slurm", "submitit_local")
"""Launchers whose config is seqlab's file, not that of the Hydra plugin."""
SOURCE = "command-line"
"""Hydra's provider name of ``--config-dir``."""


@final
@dataclass(frozen=True)
class Sources:
    """The primary config and the config folders.

    Attributes:
        name: of the primary config (``--config-name``).
        folders: config folders of the user (``--config-dir``), as URLs such as ``file:///home/me/conf``.
    """

    name: str = "config"
    folders: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The command-line arguments for these sources; none for seqlab's own."""
        quoted = [folder.replace("\\", "\\\\").replace('"', '\\"') for folder in self.folders]
        found = [f"hydra.searchpath=[{','.join(f'{chr(34)}{folder}{chr(34)}' for folder in quoted)}]"] if quoted else []
        return found if self.name == "config" else [f"--config-name={self.name}", *found]


_SOURCES: ContextVar[Sources] = ContextVar("sources", default=Sources())  # noqa: B039  # it is frozen


def sources() -> Sources:
    """Return the sources in use."""
    return _SOURCES.get()


@contextmanager
def using_sources(chosen: Sources) -> Iterator[None]:
    """Compose every config in the block from these sources."""
    token = _SOURCES.set(chosen)
    try:
        yield
    finally:
        _SOURCES.reset(token)


class PluginSearchPath(SearchPathPlugin):
    """Hydra's search path with the plugins and the user's config folders."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append ``seqlab://plugins`` and the folders of :func:`sources`."""
        search_path.append("seqlab", "seqlab://plugins")
        for folder in sources().folders:
            search_path.append(SOURCE, folder)


def run_label(model: str, cell: str) -> str:
    """Return the name of a run: its cell, or its model where that uses none."""
    (target,) = plugin_classes("model", model)
    uses_cell: bool = target.uses_cell  # type: ignore[attr-defined]  # a model has it
    return f"{model}_{cell}" if uses_cell else model


def run_time() -> str:
    """Return the time and a random number; in the processes that ``srun`` starts for one run, the job step."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    return f"{datetime.now().strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(4)}"


PLANNED_SWEEPER = {
    "_target_": "hydra_plugins.seqlab_sweeps._sweepers.PlannedSweeper",
    "max_batch_size": None,
    "params": None,
    "group_replicas": False,
}
"""Config of ``hydra/sweeper=basic``: that of Hydra's, and whether to train runs together."""


def store_sweeper() -> None:
    """Store the config of seqlab's basic sweeper in place of Hydra's."""
    ConfigStore.instance().repo.get("hydra", {}).get("sweeper", {}).pop("basic.yaml", None)
    ConfigStore.instance().store(group="hydra/sweeper", name="basic", node=PLANNED_SWEEPER, provider="seqlab")


def register() -> None:
    """Register resolvers and sources with Hydra; idempotent."""
    register_resolver("run_label", run_label)
    register_resolver("run_time", run_time, use_cache=True)
    task_defaults.register()
    Plugins.instance().register(PluginSource)
    Plugins.instance().register(PluginSearchPath)
    hydra_internals.register_sources(FileConfigSource, ImportlibResourcesConfigSource)
    store_sweeper()
    stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in OWN_LAUNCHERS:
        stored.pop(f"{name}.yaml", None)  # of the Hydra plugin; seqlab's has the same name
