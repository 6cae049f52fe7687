"""YAML that others wrote, a recipe or a file of a config folder: bounded before a parser makes values of it."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # PyYAML, which OmegaConf brings, has no types
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import KeyValidationError, OmegaConfBaseException

from seqlab.bounded import read_bytes
from seqlab.discovery import hydra_internals
from seqlab.discovery.registry import one_line
from seqlab.discovery.values import shown
from seqlab.errors import UserError

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
            raise UserError(f"{path}: {shown(key)} is no key; put a name in quotes")
        if isinstance(value, dict):
            _check_keys(value, path)
    given = node.get("defaults", [])
    if "defaults" in node and not (isinstance(given, list) and all(isinstance(each, str | dict) for each in given)):
        raise UserError(f"{path}: defaults must be a list, such as [override /cell: gru, _self_], got {shown(given)}")


def _is_scalar(text: str) -> bool:
    """Return whether a YAML text is one value; OmegaConf makes a mapping of it."""
    first = next(
        (event for event in yaml.parse(text, Loader=yaml.SafeLoader) if isinstance(event, yaml.NodeEvent)), None
    )
    return isinstance(first, yaml.ScalarEvent)


def _stays(config_path: str) -> bool:
    """Whether a config's name is no path to somewhere else, as that of ``experiment=../../evil`` is."""
    return ".." not in config_path.replace("\\", "/").split("/") and not config_path.startswith("/")


def register() -> None:
    """Let Hydra read config files by these sources; idempotent."""
    hydra_internals.register_sources(FileConfigSource, ImportlibResourcesConfigSource)
