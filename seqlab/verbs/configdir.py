"""A config folder that is not seqlab's: its files choose settings; what makes Hydra import or run is refused."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException

from seqlab.errors import UserError
from seqlab.sweeps.words import check_words, launcher_fault, split_at_blanks

_OWN = ("hydra.", "hydra_plugins.", "logging.", "colorlog.")
_NAMES_CODE = ("_target_", "class", "()")
"""Keys by which Hydra, and Python's logging, name what they import."""
_FIXED = ("job_logging", "hydra_logging", "callbacks", "run", "sweep", "output_subdir")
_FIXED_OF = {"job": ("env_set", "env_copy", "chdir")}
"""What writes files, or what the loader of libraries obeys."""


def check_config(arguments: Sequence[str]) -> None:
    """Look at what other config folders make of Hydra's own node, before Hydra does.

    Args:
        arguments: of the command line.

    Raises:
        UserError: one would make Hydra import or run something, or a flag would unpickle a file.
        hydra.errors.HydraException: the words cannot be composed.
    """
    if any(argument.startswith("--ex") for argument in arguments):
        raise UserError("--experimental-rerun unpickles a file, which can run code; seqlab rerun RUN_DIR repeats a run")
    flags = [argument.partition("=")[0] for argument in arguments]
    if any(flag.startswith("--config-p") or flag == "-cp" for flag in flags):
        raise UserError("--config-path would leave seqlab's own config out; --config-dir adds a folder of yours to it")
    if not any(flag.startswith("--config-") or flag in ("-cd", "-cn") or "searchpath" in flag for flag in flags):
        return
    asked = _parsed(arguments)
    words = [word for word in asked.overrides if "=" in word or word.startswith("~")]
    if asked.config_dir is not None:
        words.append(f"hydra.searchpath=[{_quoted(asked.config_dir)}]")
    node = _composed(asked.config_name or "config", words)
    typed = [word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    own = _composed("config", typed)
    _check_launcher(node, typed)
    _check_sweeper(node.get("sweeper") or {})
    for key, value, usual in _fixed(node, own):
        if value != usual:
            raise UserError(f"hydra.{key} is {str(value)[:80]}: a config folder cannot set this; type it yourself")
    for place, name in _named(node, "hydra"):
        if not name.startswith(_OWN):
            raise UserError(f"{place}={name}: a config folder cannot name what Hydra imports; type it yourself")


def _check_launcher(node: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Let a folder say of a launcher how much it may do; what a shell obeys, and where files go, is the user's."""
    chosen = node["runtime"]["choices"]["hydra/launcher"]
    try:
        usual = _composed("config", [f"hydra/launcher={chosen}"])["launcher"] or {}
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
                split_at_blanks(given) if isinstance(given, str) else [str(word) for word in given or ()]
            )
    for key, found in words.items():
        check_words(found, f"hydra.sweeper.{key}", "a config folder cannot set this; type it yourself")


def _fixed(node: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in _FIXED:
        yield key, node.get(key), own.get(key)
    for group, keys in _FIXED_OF.items():
        for key in keys:
            yield f"{group}.{key}", (node.get(group) or {}).get(key), (own.get(group) or {}).get(key)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    return get_args_parser().parse_args(list(arguments))


def _quoted(folder: str) -> str:
    escaped = folder.replace("\\", "\\\\").replace('"', '\\"')
    return f'"file://{escaped}"'


def _composed(name: str, words: Sequence[str]) -> Mapping[str, Any]:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from seqlab.training.compose import configs

    with configs():
        loader = GlobalHydra.instance().config_loader()
        composed = loader.load_configuration(name, list(words), RunMode.MULTIRUN)
    node = OmegaConf.to_container(composed.hydra, resolve=False)
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
