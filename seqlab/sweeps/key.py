"""Names for runs and sweeps that are the same whenever they ask for the same."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seqlab.contracts import UserError
from seqlab.plugins import find

_NOT_THE_RUN = ("hydra", "logger", "ckpt_path")
_NOT_THE_TRAINER = ("progress", "profiler", "checkpoint_minutes")
_NOT_THE_DATA = ("allow_change",)
_ADDED = {
    "data": {"duplicates": "keep"},
    "task": {"quoting": "auto", "header": "auto", "encoding": "utf-8"},
}
"""Keys that a later version brought: with these values a run computes what it did before, and keeps its name."""
_NOT_THE_SWEEP = (
    "hydra.", "hydra/", "logger", "trainer.progress", "trainer.profiler", "trainer.checkpoint_minutes",
    "data.allow_change",
)  # fmt: skip
_SWEEPER = ("hydra.sweeper.", "hydra/sweeper", "hydra.searchpath")
"""Hydra's words that say what is asked for: of a sweeper that decides as it goes, and the user's config folders."""
_KINDS = ("cell", "model", "task", "preprocessing", "kernel")


def plain(config: Mapping[Any, Any] | DictConfig) -> dict[str, Any]:
    """Give the part of a composed config that decides what a run computes, as plain values."""
    if isinstance(config, DictConfig):
        config = {key: _plain(config[key]) for key in config if key not in _NOT_THE_RUN}
    kept = {str(key): value for key, value in config.items() if key not in _NOT_THE_RUN}
    kept["data"] = {key: value for key, value in kept["data"].items() if key not in _NOT_THE_DATA}
    kept["trainer"] = {key: value for key, value in kept["trainer"].items() if key not in _NOT_THE_TRAINER}
    return kept


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True, enum_to_str=True) if OmegaConf.is_config(value) else value


def run_key(config: Mapping[Any, Any] | DictConfig) -> str:
    """Name a run by what it computes: its config, and the versions of the plugins that it names.

    Where the files go, who is told of the curves and how often is saved do not matter.
    """
    kept = plain(config)
    for group, added in _ADDED.items():
        kept[group] = {key: value for key, value in kept[group].items() if key not in added or added[key] != value}
    return _digest([kept, {kind: _version(kind, kept.get(kind)) for kind in _KINDS}])


def _version(kind: str, node: Any) -> str | None:
    if not isinstance(node, Mapping) or "name" not in node:
        return None
    try:
        plugin = find(kind, str(node["name"]))
    except UserError:  # kernel=auto is no plugin
        return None
    return f"{plugin.distribution} {plugin.version}"


def sweep_key(words: Iterable[str]) -> str:
    """Name a sweep by its words, in any order, but those that say where and how it runs."""
    bare = ((word, word.lstrip("+~")) for word in words)
    return _digest(sorted(word for word, key in bare if key.startswith(_SWEEPER) or not key.startswith(_NOT_THE_SWEEP)))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
