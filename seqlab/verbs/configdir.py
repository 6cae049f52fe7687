"""A config folder that is not seqlab's: its files choose settings; what makes Hydra import or run is refused."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seqlab.errors import UserError

_OWN = ("hydra.", "hydra_plugins.", "logging.", "colorlog.")
_NAMES_CODE = ("_target_", "class", "()")
"""Keys by which Hydra, and Python's logging, name what they import."""
_RUNS = (("launcher", "setup"), ("job", "env_set"))
"""What a shell, or the loader of libraries, would obey."""


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
    for place, name in _named(_composed(asked.config_name or "config", words), "hydra"):
        if not name.startswith(_OWN):
            raise UserError(f"{place}={name}: a config folder cannot name what Hydra imports; type it yourself")


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    return get_args_parser().parse_args(list(arguments))  # type: ignore[no-any-return]  # Hydra's is untyped


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
    for group, key in _RUNS:
        value = (node.get(group) or {}).get(key)
        if value and not any(word.startswith(f"hydra.{group}.{key}") for word in words):
            raise UserError(f"hydra.{group}.{key}={value}: a config folder cannot set this; type it yourself")
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
