"""A config folder that is not seqlab's: its files choose settings; what makes Hydra import or run is refused."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from seqlab.config.compose import compose_full, configs
from seqlab.errors import UserError
from seqlab.plugins.hydra_source import SOURCE, Sources, sources, using_sources
from seqlab.sweeps.overrides import check_file_overrides, launcher_fault, split_overrides

_OWN = ("hydra.", "hydra_plugins.", "logging.", "colorlog.")
_NAMES_CODE = ("_target_", "class", "()")
"""Keys by which Hydra, and Python's logging, name what they import."""
_FIXED = ("job_logging", "hydra_logging", "callbacks", "run", "sweep", "output_subdir")
_FIXED_OF = {"job": ("env_set", "env_copy", "chdir")}
"""What writes files, or what the loader of libraries obeys."""


def check_config_dir(words: Sequence[str]) -> None:
    """Look at what other config folders make of Hydra's own node, before Hydra does.

    Args:
        words: overrides of the command line.

    Raises:
        UserError: one would make Hydra import or run something.
        hydra.errors.HydraException: the words cannot be composed.
    """
    if sources() == Sources():
        return
    node = _composed(words)
    typed = [word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    with using_sources(replace(sources(), name="config")):
        own = _composed(typed)
    _check_launcher(node, typed)
    _check_sweeper(node.get("sweeper") or {})
    for key, value, usual in _fixed(node, own):
        if value != usual:
            raise UserError(f"hydra.{key} is {str(value)[:80]}: a config folder cannot set this; type it yourself")
    _check_names(node, typed)
    _check_hidden(node["runtime"]["choices"])


def _check_names(node: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Refuse names of what is imported, other than those of installed plugins of Hydra and those that were typed."""
    keys = {word.lstrip("+~").partition("=")[0] for word in typed}
    named = [each for each in _named(node, "hydra") if not each[1].startswith(_OWN) and each[0] not in keys]
    usual = set(_names_of_plugins(node["runtime"]["choices"])) if named else set()
    for place, name in named:
        if (place, name) not in usual:
            raise UserError(f"{place}={name}: a config folder cannot name what Hydra imports; type it yourself")


def _names_of_plugins(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """List the names that a launcher and a sweeper bring where no config folder is added."""
    for kind in ("hydra/launcher", "hydra/sweeper"):
        words = [f"{key}={name}" for key, name in chosen.items() if f"{key}/".startswith(f"{kind}/") and name]
        with suppress(HydraException), using_sources(Sources()):  # one of the folder's own
            yield from _named(_composed(words), "hydra")


def _check_hidden(chosen: Mapping[str, Any]) -> None:
    """Refuse a file that Hydra would leave out, since a config of seqlab has its name and comes first."""
    with configs():
        every = GlobalHydra.instance().config_loader().get_sources()
        for group, name in {"": sources().name, **chosen}.items():
            place = f"{group.partition('@')[0]}/{name}".lstrip("/")
            having = [each for each in every if isinstance(name, str) and each.is_config(place)]
            hidden = [each for each in having[1:] if each.provider == SOURCE]
            if hidden and having[0].provider != SOURCE:
                way_out = "choose it" if group else "choose it with --config-name"
                raise UserError(
                    f"{hidden[0].path}/{place}.yaml is not read, since seqlab has a config of this name: give the file "
                    f"another name and {way_out}"
                )


def _check_launcher(node: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Let a folder say of a launcher how much it may do; what a shell obeys, and where files go, is the user's."""
    chosen = node["runtime"]["choices"]["hydra/launcher"]
    try:
        with using_sources(Sources()):
            usual = _composed([f"hydra/launcher={chosen}"])["launcher"] or {}
    except HydraException:  # a launcher of the folder's own
        usual = {}
    keys = {word.lstrip("+~").partition("=")[0] for word in typed}
    for key, value in (node.get("launcher") or {}).items():
        if value == usual.get(key) or key in _NAMES_CODE or f"hydra.launcher.{key}" in keys:
            continue
        if fault := launcher_fault(key, value):
            raise UserError(f"hydra.launcher.{key} is {str(value)[:80]!a}, {fault}; type it yourself, if it is yours")


def _check_sweeper(node: Mapping[str, Any]) -> None:
    """Look at the words that a folder adds to those of each run."""
    words = {"params": [f"{key}={value}" for key, value in (node.get("params") or {}).items()]}
    for group in ("rows", "tasks"):
        for label, given in (node.get(group) or {}).items():
            words[f"{group}.{label}"] = (
                split_overrides(given) if isinstance(given, str) else [str(word) for word in given or ()]
            )
    for key, found in words.items():
        check_file_overrides(found, f"hydra.sweeper.{key}", "a config folder cannot set this; type it yourself")


def _fixed(node: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in _FIXED:
        yield key, node.get(key), own.get(key)
    for group, keys in _FIXED_OF.items():
        for key in keys:
            yield f"{group}.{key}", (node.get(group) or {}).get(key), (own.get(group) or {}).get(key)


def _composed(words: Sequence[str]) -> Mapping[str, Any]:
    node = OmegaConf.to_container(compose_full(words, RunMode.MULTIRUN).hydra, resolve=False)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def _named(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """List all values by which something is imported, and where they stand."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in _NAMES_CODE and isinstance(value, str):
                yield f"{place}.{key}", value
            yield from _named(value, f"{place}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _named(value, f"{place}[{number}]")
