"""Constructor signatures as options, and checks of config values against their annotations."""

import dataclasses
import inspect
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, final, get_args, get_origin, get_type_hints

from seqlab.errors import UserError

_LONGEST = 80
_TOO_LARGE = 2**63
"""What no tensor holds."""


@final
@dataclass(frozen=True)
class Ge:
    """At least ``bound``."""

    bound: float

    def holds(self, value: Any) -> bool:
        """Return whether the value is in the range."""
        return bool(value >= self.bound)

    def __str__(self) -> str:
        return f">= {self.bound}"


@final
@dataclass(frozen=True)
class Gt:
    """Greater than ``bound``."""

    bound: float

    def holds(self, value: Any) -> bool:
        """Return whether the value is in the range."""
        return bool(value > self.bound)

    def __str__(self) -> str:
        return f"> {self.bound}"


@final
@dataclass(frozen=True)
class Le:
    """At most ``bound``."""

    bound: float

    def holds(self, value: Any) -> bool:
        """Return whether the value is in the range."""
        return bool(value <= self.bound)

    def __str__(self) -> str:
        return f"<= {self.bound}"


@final
@dataclass(frozen=True)
class Lt:
    """Less than ``bound``."""

    bound: float

    def holds(self, value: Any) -> bool:
        """Return whether the value is in the range."""
        return bool(value < self.bound)

    def __str__(self) -> str:
        return f"< {self.bound}"


@final
@dataclass(frozen=True)
class NotEmpty:
    """A text with at least one character."""

    def holds(self, value: Any) -> bool:
        """Return whether the text is not empty."""
        return bool(value.strip())

    def __str__(self) -> str:
        return ""


@final
@dataclass(frozen=True)
class Meaning:
    """What a special value stands for, for the message.

    Attributes:
        text: such as ``no limit``.
    """

    text: str


def check_value(key: str, annotation: Any, value: Any) -> None:
    """Check a value against an annotation.

    Args:
        key: of the value, for the message.
        annotation: a type; ``Annotated[int, Ge(1)]`` adds a range, ``|`` alternatives, ``Literal`` choices.
        value: plain: ``None``, a bool, a number, a text, a list or a mapping of those.

    Raises:
        UserError: the value has another type or is out of its range; NaN and infinity are no numbers.
    """
    if not accepts(annotation, value):
        hint = ", which is too large" if isinstance(value, int) and value >= _TOO_LARGE else ""
        raise UserError(f"{key} must be {describe(annotation)}, got {format_value(value)}{hint}")


def accepts(annotation: Any, value: Any) -> bool:
    """Return whether a value fits an annotation; see :func:`check_value`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [bound for bound in arguments[1:] if not isinstance(bound, Meaning)]
        return accepts(arguments[0], value) and all(bound.holds(value) for bound in bounds)
    if origin in (Union, types.UnionType):
        return any(accepts(argument, value) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if annotation is None or annotation is type(None):
        return value is None
    if origin in (list, Sequence, tuple, set, frozenset) or annotation in (list, tuple):
        return _accepts_items(origin, arguments, value)
    if origin in (dict, Mapping) or annotation is dict:
        return isinstance(value, Mapping) and all(
            accepts(arguments[1] if arguments else Any, v) for v in value.values()
        )
    return _accepts_simple(annotation, value)


def _accepts_items(origin: Any, arguments: tuple[Any, ...], value: Any) -> bool:
    if isinstance(value, str | Mapping) or not isinstance(value, list | tuple | set | frozenset):
        return False
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(accepts, arguments, value))
    return all(accepts(arguments[0] if arguments else Any, item) for item in value)


def _accepts_simple(annotation: Any, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    simple: dict[Any, Callable[[], bool]] = {
        bool: lambda: isinstance(value, bool),
        int: lambda: is_number and isinstance(value, int) and abs(value) < _TOO_LARGE,
        float: lambda: is_number and math.isfinite(value),
        str: lambda: isinstance(value, str),
        Any: lambda: not isinstance(value, float) or math.isfinite(value),
    }
    if annotation in simple:
        return simple[annotation]()
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return isinstance(value, annotation) or value in annotation.__members__
    return True  # a type that only the constructor knows


def describe(annotation: Any) -> str:
    """Describe in words what :func:`accepts` accepts, such as ``a whole number >= 1 or null``."""
    found = _alternatives(annotation)
    return f"{', '.join(found[:-1])} or {found[-1]}" if len(found) > 1 else found[0]


def _alternatives(annotation: Any) -> list[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = " and ".join(str(each) for each in arguments[1:] if not isinstance(each, Meaning))
        meaning = "".join(f" ({each.text})" for each in arguments[1:] if isinstance(each, Meaning))
        return [f"{describe(arguments[0])} {bounds}".rstrip() + meaning]
    if origin in (Union, types.UnionType):
        return [text for argument in arguments for text in _alternatives(argument)]
    if origin is Literal:
        return [format_value(choice) for choice in arguments]
    if annotation is None or annotation is type(None):
        return ["null"]
    if origin in (list, Sequence, tuple, set, frozenset) or annotation in (list, tuple):
        return [_described_list(origin, arguments)]
    if origin in (dict, Mapping) or annotation is dict:
        return ["keys and values"]
    names = {int: "a whole number", float: "a number", str: "a text", Any: "a value, not NaN or infinite"}
    if annotation is bool:
        return ["true", "false"]
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return list(annotation.__members__)
    return [names.get(annotation, "another value")]


def _described_list(origin: Any, arguments: tuple[Any, ...]) -> str:
    if not arguments:
        return "a list"
    fixed = origin is tuple and arguments[-1] is not Ellipsis
    item = describe(arguments[0]).replace("a whole number", "whole numbers").replace("a number", "numbers")
    return f"a list of {f'{len(arguments)} ' if fixed else ''}{item.replace('a text', 'texts')}"


def format_value(value: Any) -> str:
    """Write a value as one would type it; long ones are cut."""
    if isinstance(value, list | tuple):
        text = f"[{', '.join(map(format_value, value))}]"
    elif isinstance(value, Mapping):
        text = f"{{{', '.join(f'{key}: {format_value(each)}' for key, each in value.items())}}}"
    elif value is None or isinstance(value, bool):
        text = json.dumps(value)
    elif value in ("True", "False"):  # what a config makes of true where it expects a text
        text = str(value).lower()
    elif isinstance(value, Enum):
        text = value.name
    elif dataclasses.is_dataclass(value) or callable(value):
        text = "something that a config cannot hold"
    else:
        text = str(value) if not isinstance(value, str) or _is_plain(value) else f"'{value}'"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _is_plain(text: str) -> bool:
    """Return whether a text cannot be mistaken for a value of another type when it is written without quotes."""
    if not text.strip() or text != text.strip() or text.lower() in ("null", "true", "false", "nan", "inf", "-inf"):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


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
