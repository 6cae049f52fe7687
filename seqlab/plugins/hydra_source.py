"""Hydra config source of the plugins, and bounded reading of YAML files."""

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

from seqlab.contracts.task import task_defaults
from seqlab.errors import UserError, one_line
from seqlab.io.safe_io import read_bytes
from seqlab.plugins import hydra_internals
from seqlab.plugins.config import choices, node, targets
from seqlab.plugins.hydra_internals import register_resolver
from seqlab.plugins.signature import format_value

_TAGS = (None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")))
_LARGEST, _DEEPEST, _MOST_VALUES = 2**18, 64, 50_000


def read_yaml(path: Path, *, aliases: bool) -> str:
    """Read a file of YAML as text, in which a few lines do not stand for very many values.

    Args:
        path: a regular file.
        aliases: whether ``*name`` may be in it, for values that are written out once.

    Raises:
        UserError: it is too large, nested too deep, no UTF-8 or no YAML.
    """
    try:
        text = read_bytes(path, _LARGEST).decode("utf-8-sig")  # a byte-order mark is no part of the text
        _check_depth(text)
        _check_events(text, aliases=aliases)
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is no YAML that is read here: {one_line(error)[:200]}") from error
    return text


def _check_depth(text: str) -> None:
    """Count brackets, before a parser does that takes the square of their depth."""
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")


def _check_events(text: str, *, aliases: bool) -> None:
    """Count values as they are when each alias is written out."""
    counts: dict[str, int] = {}
    open_ones: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        anchor, count = getattr(event, "anchor", None), 0
        if (tag := getattr(event, "tag", None)) not in _TAGS:
            raise ValueError(f"it has the tag {str(tag)[:80]!a}, by which a parser would make something of Python")
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((anchor, 1))
            if len(open_ones) > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, count = open_ones.pop()
        elif isinstance(event, yaml.AliasEvent):
            if not aliases or anchor not in counts:
                raise ValueError("it has an alias (*name); write the value out")
            anchor, count = None, counts[str(anchor)]
        elif isinstance(event, yaml.ScalarEvent):
            count = 1
        if anchor is not None and count:
            counts[anchor] = count
        outer, before = open_ones[-1]
        open_ones[-1] = (outer, before + count)
        if before + count > _MOST_VALUES:
            raise ValueError(f"it stands for more than {_MOST_VALUES:,} values")


class FileConfigSource(hydra_internals.FileConfigSource):
    """The files of a config folder: none outside it, and none that a few lines make large."""

    def is_config(self, config_path: str) -> bool:
        """Say whether there is such a file in the folder."""
        return _stays(config_path) and super().is_config(config_path)

    def is_group(self, config_path: str) -> bool:
        """Say whether there is such a folder in the folder."""
        return _stays(config_path) and super().is_group(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file whose YAML was looked at."""
        path = Path(self.path, self._normalize_file_name(config_path))
        text = read_yaml(path, aliases=True)
        try:
            header = self._get_header_dict(text)
            config = None if _is_scalar(text) else OmegaConf.create(text)
        except KeyValidationError:  # its text names types of Python
            raise UserError(f"{path}: a key is no text; put a name in quotes") from None
        except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            raise UserError(f"{path} is no YAML that is read here: {one_line(error)[:200]}") from error
        if not isinstance(config, DictConfig):
            raise UserError(f"{path} must be a mapping of keys to values, such as trainer: {{max_epochs: 3}}")
        _check_keys(OmegaConf.to_container(config, resolve=False), path)
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(provider=self.provider, path=place, config=config, header=header)


class ImportlibResourcesConfigSource(hydra_internals.ImportlibResourcesConfigSource):
    """The files of a package, such as seqlab's own, and none beside it."""

    def is_config(self, config_path: str) -> bool:
        """Say whether there is such a file in the package."""
        return _stays(config_path) and super().is_config(config_path)

    def is_group(self, config_path: str) -> bool:
        """Say whether there is such a folder in the package."""
        return _stays(config_path) and super().is_group(config_path)


def _check_keys(node: Any, path: Path) -> None:
    """Check the keys of a file, and its defaults list.

    Raises:
        UserError: a key is no text, or the defaults are no list of names and of mappings of a group to a name.
    """
    for key, value in node.items():
        if not isinstance(key, str):
            raise UserError(f"{path}: {format_value(key)} is no key; put a name in quotes")
        if isinstance(value, dict):
            _check_keys(value, path)
    given = node.get("defaults", [])
    if "defaults" in node and not (isinstance(given, list) and all(isinstance(each, str | dict) for each in given)):
        raise UserError(
            f"{path}: defaults must be a list, such as [override /cell: gru, _self_], got {format_value(given)}"
        )


def _is_scalar(text: str) -> bool:
    """Return whether a YAML text is one value; OmegaConf makes a mapping of it."""
    first = next(
        (event for event in yaml.parse(text, Loader=yaml.SafeLoader) if isinstance(event, yaml.NodeEvent)), None
    )
    return isinstance(first, yaml.ScalarEvent)


def _stays(config_path: str) -> bool:
    """Whether a config's name is no path to somewhere else, as that of ``experiment=../../evil`` is."""
    return ".." not in config_path.replace("\\", "/").split("/") and not config_path.startswith("/")


def register_yaml_sources() -> None:
    """Let Hydra read config files by these sources; idempotent."""
    hydra_internals.register_sources(FileConfigSource, ImportlibResourcesConfigSource)


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
        (task,) = targets(kind, name)
        settings = task_defaults(task)
        presets = {"preprocessing": settings.preprocessing, **settings.presets}
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
def using_sources(chosen: Sources) -> Iterator[None]:
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
    return task_defaults(target).max_epochs


def register() -> None:
    """Tell Hydra of the plugins; idempotent."""
    register_resolver("run_label", run_label)
    register_resolver("run_time", run_time, use_cache=True)
    register_resolver("epochs_of", epochs_of)
    Plugins.instance().register(PluginSource)
    Plugins.instance().register(PluginSearchPath)
    register_yaml_sources()
    stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in OWN_LAUNCHERS:
        stored.pop(f"{name}.yaml", None)  # the other package's config; seqlab's has the same name
