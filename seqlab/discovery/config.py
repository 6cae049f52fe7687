"""Constructor signatures -> config nodes, and config nodes -> plugins."""

import dataclasses
import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, final, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqlab._version import __version__
from seqlab.discovery.pinned import is_pinned, parts
from seqlab.discovery.registry import find, one_line, plugins
from seqlab.errors import UserError

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


@final
@dataclass(frozen=True)
class Option:
    """One argument of a plugin's constructor.

    Attributes:
        name: its key in the config.
        annotation: its type.
        default: its default, or ``inspect.Parameter.empty`` for what the framework supplies.
        doc: what the class's docstring says of it.
    """

    name: str
    annotation: Any
    default: Any
    doc: str

    @property
    def supplied(self) -> bool:
        """Whether the framework supplies it, so that it is no key of the config."""
        return self.default is inspect.Parameter.empty


@cache
def options(target: type) -> tuple[Option, ...]:
    """Read a constructor's arguments, those that ``**kwargs`` hands on to a base class included."""
    found: dict[str, Option] = {}
    for owner in target.__mro__:
        if "__init__" not in vars(owner) or owner is object:
            continue
        signature = inspect.signature(vars(owner)["__init__"])
        hints = _hints(owner)
        docs = argument_docs(owner)
        passes_on = False
        for parameter in list(signature.parameters.values())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                passes_on |= parameter.kind is parameter.VAR_KEYWORD
                continue
            found.setdefault(
                parameter.name,
                Option(
                    parameter.name,
                    hints.get(parameter.name, Any),
                    parameter.default,
                    docs.get(parameter.name, ""),
                ),
            )
        if not passes_on:
            break
    return tuple(found.values())


def _hints(owner: type) -> dict[str, Any]:
    try:
        return get_type_hints(vars(owner)["__init__"])
    except NameError:  # an annotation that exists for type checkers only
        return {}


def argument_docs(target: type) -> dict[str, str]:
    """Read the ``Args:`` section of a class's docstring (Google style), one line each."""
    lines = inspect.cleandoc(target.__doc__ or "").split("\n")
    if "Args:" not in lines:
        return {}
    docs: dict[str, str] = {}
    current = ""
    for line in lines[lines.index("Args:") + 1 :]:
        if line.strip() and not line.startswith(" "):
            break
        if line.startswith("    ") and not line.startswith("     ") and ":" in line:
            current, _, text = line.strip().partition(":")
            current = current.partition(" ")[0]
            docs[current] = text.strip()
        elif current and line.strip():
            docs[current] += " " + line.strip()
    return docs


def summary(target: Any) -> str:
    """Give the first line of a plugin's docstring."""
    return (inspect.getdoc(target) or "").partition("\n")[0].rstrip(".")


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
        name, _ = parts(name)
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
    if (written_for := getattr(target, "plugin_api", contracts.PLUGIN_API)) != contracts.PLUGIN_API:
        return (
            f"it is written for plugin API {written_for}, and this seqlab {__version__} has {contracts.PLUGIN_API}: "
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


def config_type(annotation: Any) -> Any:
    """Find the type by which the config checks a value; ``Any`` where the config cannot."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        kinds = {type(value) for value in arguments}
        return kinds.pop() if len(kinds) == 1 else Any
    if origin in (Union, types.UnionType):
        inner = [config_type(argument) for argument in arguments if argument is not type(None)]
        if len(inner) == 1:
            return inner[0] if inner[0] is Any or len(arguments) == 1 else inner[0] | None
        return Any
    if origin in (list, Sequence, tuple):
        return list[config_type(arguments[0])] if arguments else list[Any]  # type: ignore[misc]  # made at run time
    if origin in (dict, Mapping):
        return dict[str, config_type(arguments[1])]  # type: ignore[misc]  # made at run time
    simple = inspect.isclass(annotation) and (
        issubclass(annotation, bool | int | float | str) or dataclasses.is_dataclass(annotation)
    )
    return annotation if simple or (inspect.isclass(annotation) and _is_enum(annotation)) else Any


def _is_enum(annotation: type) -> bool:
    from enum import Enum

    return issubclass(annotation, Enum)


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
    keywords = checked(kind, chosen)
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
        raise UserError(explained(kind, name, error)) from error


def explained(kind: str, name: str, error: Exception) -> str:
    """Put the config key in front of a plugin's complaint about one of its options."""
    message = one_line(error)
    first = message.partition(" ")[0].rstrip(":")
    known = {option.name for target in targets(kind, name) for option in options(target)}
    key, group = (f"callbacks.{name}", "callbacks") if kind == "callback" else (kind, kind)
    return f"{key}.{message}" if first in known else f"{group}={name}: {message}"


def checked(kind: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Check a node against the plugin's signature and fill in the defaults."""
    plain = OmegaConf.to_container(chosen, resolve=True) if isinstance(chosen, DictConfig) else dict(chosen)
    assert isinstance(plain, dict)
    if not isinstance(plain.get(RESERVED), str):
        raise UserError(f"{kind} has no {RESERVED}, so that it is not known which {kind} is meant")
    name = plain[RESERVED]
    try:
        merged = OmegaConf.merge(node(kind, name), plain)
    except OmegaConfBaseException as error:
        raise UserError(f"{kind}.{error.full_key}: {one_line(error).partition(' full_key')[0]}") from None
    value = OmegaConf.to_object(merged)
    keywords = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}  # type: ignore[arg-type]
    for target in targets(kind, name):
        for option in options(target):
            if option.name in keywords:
                _check_literal(f"{kind}.{option.name}", option.annotation, keywords[option.name])
    return keywords


def _check_literal(key: str, annotation: Any, value: Any) -> None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        literals = [argument for argument in arguments if get_origin(argument) is Literal]
        if value is None or not literals:
            return
        origin, arguments = Literal, get_args(literals[0])
    if origin is Literal and value not in arguments:
        raise UserError(f"{key} is {value!r}; it must be one of {', '.join(map(str, arguments))}")
    if origin in (list, Sequence, tuple) and arguments and isinstance(value, list):
        for item in value:
            _check_literal(key, arguments[0], item)
