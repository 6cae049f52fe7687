"""Checks of a user's config folder: its files may choose settings, but not what Hydra imports or runs."""

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
from seqlab.sweeps.overrides import check_file_overrides, launcher_fault, override_key, split_overrides

_OWN = ("hydra.", "hydra_plugins.", "logging.", "colorlog.")
_NAMES_CODE = ("_target_", "class", "()")
"""Keys by which Hydra and Python's logging name classes and functions to import."""
_FIXED = (
    "job_logging", "hydra_logging", "callbacks", "run", "sweep", "output_subdir", "job.env_set", "job.env_copy",
    "job.chdir",
)  # fmt: skip
"""Keys of Hydra that write files, or set the environment of the dynamic loader."""


def check_config_dir(overrides: Sequence[str]) -> None:
    """Check what config folders change of Hydra's own node, before Hydra reads it.

    Args:
        overrides: of the command line.

    Raises:
        UserError: a folder would make Hydra import or run something.
        hydra.errors.HydraException: the overrides cannot be composed.
    """
    if sources() == Sources():
        return
    node = _composed(overrides)
    typed = [word for word in overrides if override_key(word).startswith(("hydra.", "hydra/"))]
    with using_sources(replace(sources(), name="config")):
        own = _composed(typed)
    keys = set(map(override_key, typed))
    _check_launcher(node, keys)
    _check_sweeper(node.get("sweeper") or {})
    for key in _FIXED:
        if (value := _at(node, key)) != _at(own, key):
            raise UserError(f"hydra.{key} is {str(value)[:80]}: a config folder cannot set this; type it yourself")
    _check_names(node, keys)
    _check_hidden(node["runtime"]["choices"])


def _composed(overrides: Sequence[str]) -> Mapping[str, Any]:
    node = OmegaConf.to_container(compose_full(overrides, RunMode.MULTIRUN).hydra, resolve=False)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def _at(node: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key."""
    group, _, last = key.rpartition(".")
    return ((node.get(group) or {}) if group else node).get(last)


def _check_launcher(node: Mapping[str, Any], typed: set[str]) -> None:
    """Allow a folder to set the resources of a launcher, but no shell command, environment or path."""
    chosen = node["runtime"]["choices"]["hydra/launcher"]
    try:
        with using_sources(Sources()):
            usual = _composed([f"hydra/launcher={chosen}"])["launcher"] or {}
    except HydraException:  # a launcher of the folder's own
        usual = {}
    for key, value in (node.get("launcher") or {}).items():
        if value == usual.get(key) or key in _NAMES_CODE or f"hydra.launcher.{key}" in typed:
            continue
        if fault := launcher_fault(key, value):
            raise UserError(f"hydra.launcher.{key} is {str(value)[:80]!a}, {fault}; type it yourself, if it is yours")


def _check_sweeper(node: Mapping[str, Any]) -> None:
    """Check the overrides that a folder adds to those of each run."""
    found = {"params": [f"{key}={value}" for key, value in (node.get("params") or {}).items()]}
    for group in ("rows", "tasks"):
        for label, given in (node.get(group) or {}).items():
            overrides = split_overrides(given) if isinstance(given, str) else [str(word) for word in given or ()]
            found[f"{group}.{label}"] = overrides
    for key, overrides in found.items():
        check_file_overrides(overrides, f"hydra.sweeper.{key}", "a config folder cannot set this; type it yourself")


def _check_names(node: Mapping[str, Any], typed: set[str]) -> None:
    """Refuse names of code other than that of Hydra's installed plugins and those that were typed."""
    named = [each for each in _names(node, "hydra") if not each[1].startswith(_OWN) and each[0] not in typed]
    usual = set(_names_of_plugins(node["runtime"]["choices"])) if named else set()
    for place, name in named:
        if (place, name) not in usual:
            raise UserError(f"{place}={name}: a config folder cannot name what Hydra imports; type it yourself")


def _names_of_plugins(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names in the configs of a launcher and a sweeper without the folder."""
    for kind in ("hydra/launcher", "hydra/sweeper"):
        overrides = [f"{key}={name}" for key, name in chosen.items() if f"{key}/".startswith(f"{kind}/") and name]
        with suppress(HydraException), using_sources(Sources()):  # one of the folder's own
            yield from _names(_composed(overrides), "hydra")


def _names(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each key that names code, and its value."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in _NAMES_CODE and isinstance(value, str):
                yield f"{place}.{key}", value
            yield from _names(value, f"{place}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _names(value, f"{place}[{number}]")


def _check_hidden(chosen: Mapping[str, Any]) -> None:
    """Refuse a file that Hydra would ignore, since a config of seqlab has the same name and comes first."""
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
