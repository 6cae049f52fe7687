"""Cells with one of their kernels pinned: ``cell=fused_lstm`` is ``cell=lstm kernel=fused``."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqlab._version import __version__
from seqlab.errors import UserError, one_line
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.registry import find, plugins
from seqlab.plugins.signature import Option, check_value, config_type, format_value, options


def is_pinned(name: str) -> bool:
    """Whether a choice of ``cell=`` is a cell with its kernel; nothing is imported."""
    return name in plugins("pinned")


def pinned_parts(name: str) -> tuple[str, str]:
    """Name the cell and the kernel that a choice of ``cell=`` stands for.

    Raises:
        UserError: it is broken, or its cell is not registered.
    """
    from seqlab.plugins.kernels import cell_names  # which imports torch

    kernel = find("pinned", name).load()
    cells = cell_names(kernel.cell)
    if not cells:
        raise UserError(f"cell={name} is broken: {kernel.cell.__name__}, which its kernel scans, is no registered cell")
    return min(cells), kernel.name


def unpinned(config: Mapping[str, Any]) -> dict[str, Any]:
    """Write a config's cell and kernel apart, as every record and checkpoint has them.

    Args:
        config: resolved, with nodes ``cell`` and ``kernel``.

    Raises:
        UserError: another kernel was asked for.
    """
    plain = dict(config)
    name = plain["cell"]["name"]
    if not is_pinned(name):
        return plain
    cell, kernel = pinned_parts(name)
    asked = plain["kernel"]["name"]
    if asked not in ("auto", kernel):
        raise UserError(
            f"cell={name} is cell={cell} with kernel={kernel}; for kernel={asked} say cell={cell} kernel={asked}"
        )
    plain["cell"] = {**plain["cell"], "name": cell}
    if asked == "auto":
        plain["kernel"] = OmegaConf.to_container(node("kernel", kernel))
    return plain


BUILT_IN_KERNELS = ("auto", "loop", "compiled")
"""The choices of ``kernel=`` that are no plugins: they serve every cell."""

CLASSES = {"cell": "Cell", "kernel": "Kernel", "model": "Model", "task": "Task", "preprocessing": "Preprocessor"}
"""The class in ``seqlab`` that a plugin of each kind derives from."""

_SUPPLIED = {
    "cell": {"input_size"},
    "kernel": set[str](),
    "model": {"inputs", "outputs", "head", "per_step", "cell", "kernel"},
    "task": set[str](),
    "preprocessing": set[str](),
}
"""The constructor's arguments that the framework supplies, by kind; every other one needs a default."""

RESERVED = "name"
"""The key of every node that says which plugin it configures."""


@cache
def node_type(kind: str, name: str) -> type:
    """Make the dataclass whose fields are a plugin's options and ``name``.

    Raises:
        UserError: there is no such plugin, it is broken, or one of its arguments cannot be a config key.
    """
    fields: list[tuple[str, Any, Any]] = [(RESERVED, str, dataclasses.field(default=name))]
    for target in targets(kind, name):
        for option in options(target):
            if option.name == RESERVED:
                raise UserError(f"{kind}={name} is broken: its constructor has an argument called {RESERVED}")
            if not option.supplied and option.name not in {field for field, _, _ in fields}:
                fields.append((option.name, config_type(option.annotation), _default(option.default)))
    return dataclasses.make_dataclass(f"{kind}={name}", fields)


def targets(kind: str, name: str) -> list[type]:
    """Import what a choice stands for: one class, or every kernel of that name."""
    if kind == "cell" and is_pinned(name):
        name, _ = pinned_parts(name)
    if kind != "kernel":
        return [plugin_class(kind, name)]
    if name in BUILT_IN_KERNELS:
        return []
    entries = [entry for entry in plugins("kernel") if entry.partition(".")[2] == name]
    if not entries:
        raise UserError(f"kernel={name}: there is no such kernel; there are {', '.join(choices('kernel'))}")
    found: list[type] = []
    faults: list[UserError] = []
    for entry in entries:
        try:
            found.append(plugin_class("kernel", entry))
        except UserError as error:  # another cell's kernel of this name may be sound
            faults.append(error)
    if not found:
        raise faults[0]
    return found


def plugin_class(kind: str, name: str) -> type:
    """Import a plugin by its entry point's name, and check that it can be one.

    Raises:
        UserError: there is none, or it is broken; the message says how.
    """
    plugin = find(kind, name)
    target = plugin.load()
    if not inspect.isclass(target):
        owner = f"{plugin.distribution} {plugin.version}"
        raise UserError(f"{kind}={name} of {owner} is broken: {plugin.target} is no class")
    if fault := _fault(kind, target):
        raise UserError(f"{kind}={name} of {plugin.distribution} {plugin.version} is broken: {fault}")
    return target


def _fault(kind: str, target: type) -> str | None:
    """Say why a class cannot be a plugin of its kind: the wrong base class, something abstract, a bad signature."""
    from seqlab import contracts

    if (base := CLASSES.get(kind)) and not issubclass(target, getattr(contracts, base)):
        return f"{target.__name__} is no seqlab.{base}"
    written_for, newest = getattr(target, "plugin_api", contracts.PLUGIN_API), contracts.PLUGIN_API
    if written_for not in range(contracts.OLDEST_PLUGIN_API, newest + 1):
        return (
            f"it is written for plugin API {written_for}, and this seqlab {__version__} has {newest}: "
            "pip install -U seqlab and the plugin, so that the two agree"
        )
    if inspect.isabstract(target):
        missing = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        return f"{target.__name__} does not define {missing}"
    if kind not in _SUPPLIED:
        return None
    required = {option.name for option in options(target) if option.supplied}
    if unknown := sorted(required - _SUPPLIED[kind]):
        return f"its constructor needs {', '.join(unknown)}, which nothing supplies: give it a default"
    if kind == "cell" and "input_size" not in required:
        return "its constructor must take input_size, without a default"
    return None


def choices(kind: str) -> list[str]:
    """List what may stand after ``kind=``; nothing is imported."""
    if kind == "cell":
        return sorted([*plugins("cell"), *plugins("pinned")])
    if kind != "kernel":
        return list(plugins(kind))
    return [*BUILT_IN_KERNELS, *sorted({entry.partition(".")[2] for entry in plugins("kernel")})]


def _default(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return dataclasses.field(default=value)
    if isinstance(value, tuple | set | frozenset):
        value = list(value)
    return dataclasses.field(default_factory=lambda: value)


def node(kind: str, name: str) -> DictConfig:
    """Make a plugin's config node, filled with its constructor's defaults."""
    made: DictConfig = OmegaConf.structured(node_type(kind, name))
    return made


def build(kind: str, chosen: Mapping[str, Any], **supplied: Any) -> Any:
    """Make a plugin from its config node.

    Args:
        kind: what it is.
        chosen: the node: the plugin's ``name`` and its options; those left out take their defaults.
        supplied: arguments from the framework; those the constructor does not name are left out.

    Raises:
        UserError: an option is unknown, of the wrong type or out of range.
    """
    keywords = checked_node(kind, chosen)
    name = keywords.pop(RESERVED)
    (target,) = targets(kind, name)
    for option in options(target):
        if option.supplied:
            if option.name not in supplied:
                raise UserError(f"{kind}={name} is broken: its constructor needs {option.name}, which nothing supplies")
            keywords[option.name] = supplied[option.name]
    try:
        return target(**keywords)
    except (ValueError, OSError) as error:
        raise UserError(named_option(kind, name, error)) from error


def named_option(kind: str, name: str, error: Exception) -> str:
    """Put the config key in front of a plugin's complaint about one of its options."""
    message = one_line(error)
    first = message.partition(" ")[0].rstrip(":")
    known = {option.name for target in targets(kind, name) for option in options(target)}
    key, group = (f"callbacks.{name}", "callbacks") if kind == "callback" else (kind, kind)
    return f"{key}.{message}" if first in known else f"{group}={name}: {message}"


def checked_node(kind: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Check a node against the plugin's signature and fill in the defaults.

    Raises:
        UserError: an option is unknown or of the wrong type.
    """
    plain = OmegaConf.to_container(chosen, resolve=True) if isinstance(chosen, DictConfig) else dict(chosen)
    assert isinstance(plain, dict)
    _check_resolved(kind, plain)
    check_node(kind, _key(kind, plain.get(RESERVED)), plain)
    try:
        merged = OmegaConf.merge(node(kind, plain[RESERVED]), plain)
    except OmegaConfBaseException as error:
        raise UserError(f"{kind}.{error.full_key}: {one_line(error).partition(' full_key')[0]}") from None
    value = OmegaConf.to_object(merged)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}  # type: ignore[arg-type]  # an instance of a dataclass made at run time


def _key(kind: str, name: Any) -> str:
    return f"callbacks.{name}" if kind == "callback" else kind


def check_node(kind: str, key: str, chosen: Any, known: Sequence[str] = ()) -> None:
    """Check the keys and the values of a node against the plugin's signature.

    Args:
        kind: of the plugin.
        key: of the node, for the message.
        chosen: the node as plain values.
        known: all keys of the config, dotted, for suggestions.

    Raises:
        UserError: a key does not exist, or a value is of the wrong type; NaN and infinity are no numbers.
    """
    if not isinstance(chosen, Mapping):
        raise UserError(f"{key} must be chosen by name, got {format_value(chosen)}")
    if not isinstance(chosen.get(RESERVED), str):
        group = {"callback": "callbacks"}.get(kind, kind)
        raise UserError(f"{key} has no {RESERVED}; choose the {kind} by {group}=NAME")
    there = [option for target in targets(kind, chosen[RESERVED]) for option in options(target) if not option.supplied]
    names = list(dict.fromkeys(option.name for option in there))
    for name in chosen:
        if name != RESERVED and name not in names:
            own = [f"{key}.{each}" for each in (RESERVED, *names)]
            raise UserError(unknown_key(f"{key}.{name}", [*own, *(each for each in known if each not in own)]))
    for option in there:
        if option.name in chosen and not _is_default(option, chosen[option.name]):
            check_value(f"{key}.{option.name}", option.annotation, chosen[option.name])


def _is_default(option: Option, value: Any) -> bool:
    default = list(option.default) if isinstance(option.default, tuple | set | frozenset) else option.default
    return type(value) is type(default) and bool(value == default)


def _check_resolved(place: str, value: Any) -> None:
    """Refuse what OmegaConf would resolve once more: a value of a file does not read this machine's environment."""
    if isinstance(value, str) and "${" in value:
        raise UserError(f"{place} has an interpolation, {value[:80]!a}; only a config that is composed may have one")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_resolved(f"{place}.{key}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_resolved(place, item)
