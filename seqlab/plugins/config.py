"""Config nodes of plugins: from a constructor's signature to a node, and from a node to an object."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqlab._version import __version__
from seqlab.errors import UserError, one_line
from seqlab.plugins.diagnostics import unknown_key
from seqlab.plugins.hydra_internals import NumberOrText, TrueOrFalse
from seqlab.plugins.registry import find, plugins
from seqlab.plugins.signature import Option, check_value, config_type, format_value, is_number_or_text, options

BUILT_IN_KERNELS = ("auto", "loop", "compiled")
"""The choices of ``kernel=`` that are not plugins and serve every cell."""

CLASSES = {"cell": "Cell", "kernel": "Kernel", "model": "Model", "task": "Task", "preprocessing": "Preprocessor"}
"""The base class in ``seqlab`` of each kind of plugin."""

_SUPPLIED = {
    "cell": {"input_size"},
    "kernel": set[str](),
    "model": {"inputs", "outputs", "head", "per_step", "cell", "kernel"},
    "task": set[str](),
    "preprocessing": set[str](),
}
"""The constructor's arguments that the framework supplies, by kind; every other one needs a default."""

RESERVED = "name"
"""The key of a node with the name of its plugin."""


def is_pinned(name: str) -> bool:
    """Return whether a choice of ``cell=`` is a cell with one of its kernels; nothing is imported."""
    return name in plugins("pinned")


def pinned_parts(name: str) -> tuple[str, str]:
    """Return the cell and the kernel of a choice of ``cell=`` such as ``fused_lstm``."""
    from seqlab.plugins.kernels import cell_names  # which imports torch

    kernel = find("pinned", name).load()
    cells = cell_names(kernel.cell)
    if not cells:
        raise UserError(f"cell={name} is broken: {kernel.cell.__name__}, the cell of its kernel, is not registered")
    return min(cells), kernel.name


def expand_pinned(config: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a cell such as ``fused_lstm`` by its cell and kernel, as records and checkpoints have them."""
    plain = dict(config)
    name, chosen = plain["cell"]["name"], plain["kernel"]["name"]
    if not is_pinned(name):
        return plain
    cell, kernel = pinned_parts(name)
    if chosen not in ("auto", kernel):
        raise UserError(
            f"cell={name} is cell={cell} with kernel={kernel}; for kernel={chosen} set cell={cell} kernel={chosen}"
        )
    plain["cell"] = {**plain["cell"], "name": cell}
    if chosen == "auto":
        plain["kernel"] = OmegaConf.to_container(node("kernel", kernel))
    return plain


def choices(kind: str) -> list[str]:
    """Return what may follow ``kind=``; nothing is imported."""
    if kind == "cell":
        return sorted([*plugins("cell"), *plugins("pinned")])
    if kind != "kernel":
        return list(plugins(kind))
    return [*BUILT_IN_KERNELS, *sorted({entry.partition(".")[2] for entry in plugins("kernel")})]


def plugin_classes(kind: str, name: str) -> list[type]:
    """Import the class of a choice, or of a kernel all classes of that name."""
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
    errors: list[UserError] = []
    for entry in entries:
        try:
            found.append(plugin_class("kernel", entry))
        except UserError as error:  # another cell's kernel of this name may work
            errors.append(error)
    if not found:
        raise errors[0]
    return found


def plugin_class(kind: str, name: str) -> type:
    """Import a plugin by the name of its entry point, and check its class."""
    plugin = find(kind, name)
    target: Any = plugin.load()
    if problem := _class_problem(kind, target) if inspect.isclass(target) else f"{plugin.target} is not a class":
        raise UserError(f"{kind}={name} of {plugin.distribution} {plugin.version} is broken: {problem}")
    made: type = target
    return made


def _class_problem(kind: str, target: type) -> str | None:
    """Return why a class cannot be a plugin of its kind; ``None`` where it can."""
    from seqlab import contracts

    if (base := CLASSES.get(kind)) and not issubclass(target, getattr(contracts, base)):
        return f"{target.__name__} is not a seqlab.{base}"
    written_for, newest = getattr(target, "plugin_api", contracts.PLUGIN_API), contracts.PLUGIN_API
    if written_for not in range(contracts.OLDEST_PLUGIN_API, newest + 1):
        return (
            f"it is written for plugin API {written_for}, and this seqlab {__version__} has {newest}: "
            "pip install -U seqlab and the plugin, so that the two agree"
        )
    if inspect.isabstract(target):
        return f"{target.__name__} does not define {', '.join(sorted(getattr(target, '__abstractmethods__', ())))}"
    if kind not in _SUPPLIED:
        return None
    required = {option.name for option in options(target) if option.supplied}
    if unknown := sorted(required - _SUPPLIED[kind]):
        return f"its constructor needs {', '.join(unknown)}, which nothing supplies: give it a default"
    if kind == "cell" and "input_size" not in required:
        return "its constructor must take input_size, without a default"
    return None


@cache
def node_type(kind: str, name: str) -> type:
    """Return the dataclass whose fields are ``name`` and a plugin's options."""
    fields: dict[str, tuple[str, Any, Any]] = {RESERVED: (RESERVED, str, dataclasses.field(default=name))}
    for option in _options(kind, name):
        if option.name == RESERVED:
            raise UserError(f"{kind}={name} is broken: its constructor has an argument called {RESERVED}")
        fields.setdefault(option.name, (option.name, config_type(option.annotation), _field(option)))
    return dataclasses.make_dataclass(f"{kind}={name}", fields.values())


def _options(kind: str, name: str) -> list[Option]:
    return [option for target in plugin_classes(kind, name) for option in options(target) if not option.supplied]


def added_options(kind: str, name: str) -> dict[str, Any]:
    """Return options that later versions of a plugin added, with the values at which it computes what it did before.

    They are the class attribute ``added_options``; a run with these values keeps its key.
    """
    added = (getattr(target, "added_options", {}) for target in plugin_classes(kind, name))
    return {key: value for each in added for key, value in each.items()}


def _field(option: Option) -> Any:
    default = option.default
    if is_number_or_text(option.annotation):
        return dataclasses.field(default_factory=lambda: NumberOrText(default, is_optional=False))
    if option.annotation is bool and isinstance(default, bool):
        return dataclasses.field(default_factory=lambda: TrueOrFalse(default, is_optional=False))
    if default is None or isinstance(default, bool | int | float | str | bytes):
        return dataclasses.field(default=default)
    return dataclasses.field(default_factory=lambda: _as_list(default))


def _as_list(default: Any) -> Any:
    return list(default) if isinstance(default, tuple | set | frozenset) else default


def node(kind: str, name: str) -> DictConfig:
    """Return a plugin's config node with its constructor's defaults."""
    made: DictConfig = OmegaConf.structured(node_type(kind, name))
    return made


def build(kind: str, chosen: Mapping[str, Any], **supplied: Any) -> Any:
    """Create a plugin from its config node.

    Args:
        kind: of the plugin.
        chosen: the node: the plugin's ``name`` and its options; missing ones take their defaults.
        supplied: arguments from the framework; those that the constructor does not name are ignored.
    """
    arguments = checked_arguments(kind, chosen)
    name = arguments.pop(RESERVED)
    (target,) = plugin_classes(kind, name)
    for option in options(target):
        if option.supplied:
            if option.name not in supplied:
                raise UserError(f"{kind}={name} is broken: its constructor needs {option.name}, which nothing supplies")
            arguments[option.name] = supplied[option.name]
    try:
        return target(**arguments)
    except (ValueError, OSError) as error:
        raise UserError(option_error(kind, name, error)) from error


def option_error(kind: str, name: str, error: Exception) -> str:
    """Return a constructor's error as one line that begins with the config key, if it names an option first."""
    message = one_line(error)
    first = message.partition(" ")[0].rstrip(":")
    known = {option.name for target in plugin_classes(kind, name) for option in options(target)}
    key = _key(kind, name)
    return f"{key}.{message}" if first in known else f"{key.partition('.')[0]}={name}: {message}"


def _key(kind: str, name: Any) -> str:
    return f"callbacks.{name}" if kind == "callback" else kind


def checked_arguments(kind: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Check a node against the plugin's signature and add the defaults."""
    plain = OmegaConf.to_container(chosen, resolve=True) if isinstance(chosen, DictConfig) else dict(chosen)
    assert isinstance(plain, dict)
    _check_resolved(kind, plain)
    check_node(kind, _key(kind, plain.get(RESERVED)), plain)
    key = node_type(kind, plain[RESERVED]), repr(plain)
    if key not in _CHECKED:  # the runs of a sweep repeat most nodes, and each takes some milliseconds
        if len(_CHECKED) >= _MOST_CHECKED:
            _CHECKED.clear()
        _CHECKED[key] = _with_constructor_defaults(kind, plain)
    return deepcopy(_CHECKED[key])


_CHECKED: dict[tuple[type, str], dict[str, Any]] = {}
_MOST_CHECKED = 256


def _with_constructor_defaults(kind: str, plain: dict[Any, Any]) -> dict[str, Any]:
    try:
        merged = OmegaConf.merge(node(kind, plain[RESERVED]), plain)
    except OmegaConfBaseException as error:
        raise UserError(f"{kind}.{error.full_key}: {one_line(error).partition(' full_key')[0]}") from None
    value = OmegaConf.to_object(merged)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}  # type: ignore[arg-type]  # an instance of a dataclass made at run time


def check_node(kind: str, key: str, chosen: Any, known: Sequence[str] = ()) -> None:
    """Check the keys and values of the node ``key`` against the plugin's signature; suggest ``known`` keys.

    NaN and infinity are not numbers.
    """
    if not isinstance(chosen, Mapping):
        raise UserError(f"{key} must be chosen by name, got {format_value(chosen)}")
    if not isinstance(chosen.get(RESERVED), str):
        raise UserError(f"{key} has no {RESERVED}; choose the {kind} by {key.partition('.')[0]}=NAME")
    there = _options(kind, chosen[RESERVED])
    names = list(dict.fromkeys(option.name for option in there))
    for name in chosen:
        if name != RESERVED and name not in names:
            own = [f"{key}.{each}" for each in (RESERVED, *names)]
            raise UserError(unknown_key(f"{key}.{name}", [*own, *(each for each in known if each not in own)]))
    for option in there:
        if option.name in chosen and not _is_default(option, chosen[option.name]):
            check_value(f"{key}.{option.name}", option.annotation, chosen[option.name])


def _is_default(option: Option, value: Any) -> bool:
    default = _as_list(option.default)
    return type(value) is type(default) and bool(value == default)


def _check_resolved(key: str, value: Any) -> None:
    """Refuse an interpolation, so that a value from a file does not read this machine's environment."""
    if isinstance(value, str) and "${" in value:
        raise UserError(f"{key} has an interpolation, {value[:80]!a}; only a config that is composed may have one")
    if isinstance(value, Mapping):
        for inner, item in value.items():
            _check_resolved(f"{key}.{inner}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_resolved(key, item)
