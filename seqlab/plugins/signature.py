"""Constructor signatures as options, and checks of config values against type annotations."""

import dataclasses
import inspect
import json
import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, final, get_args, get_origin, get_type_hints

from seqlab.errors import UserError

_LONGEST = 80
_TOO_LARGE = 2**63
"""One more than the largest integer of a tensor."""
_LISTS = (list, tuple, set, frozenset, Sequence)
_MAPPINGS = (dict, Mapping)


@dataclass(frozen=True)
class Bound:
    """A bound of a number, in ``Annotated[int, Ge(1)]``."""

    bound: float
    sign: ClassVar[str]
    compare: ClassVar[Callable[[Any, Any], Any]]

    def holds(self, value: Any) -> bool:
        """Return whether a value is within the bound."""
        return bool(type(self).compare(value, self.bound))

    def __str__(self) -> str:
        return f"{self.sign} {self.bound}"


@final
class Ge(Bound):
    """Greater than or equal to the bound."""

    sign, compare = ">=", operator.ge


@final
class Gt(Bound):
    """Greater than the bound."""

    sign, compare = ">", operator.gt


@final
class Le(Bound):
    """Less than or equal to the bound."""

    sign, compare = "<=", operator.le


@final
class Lt(Bound):
    """Less than the bound."""

    sign, compare = "<", operator.lt


@final
@dataclass(frozen=True)
class NotEmpty:
    """A string with at least one character that is not a space."""

    def holds(self, value: Any) -> bool:
        """Return whether the string is not empty."""
        return bool(value.strip())

    def __str__(self) -> str:
        return ""


@final
@dataclass(frozen=True)
class Meaning:
    """The meaning of a special value, such as ``no limit``, for messages."""

    text: str


def check_value(key: str, annotation: Any, value: Any) -> None:
    """Check a value against an annotation.

    Args:
        key: of the value, for the message.
        annotation: a type; ``Annotated[int, Ge(1)]`` adds a range, ``|`` alternatives, ``Literal`` choices.
        value: plain: ``None``, a bool, a number, a string, a list or a mapping of those.

    Raises:
        UserError: the value has another type or is out of its range; NaN and infinity are not numbers.
    """
    if not accepts(annotation, value):
        hint = ", which is too large" if isinstance(value, int) and value >= _TOO_LARGE else ""
        raise UserError(f"{key} must be {describe(annotation, value)}, got {format_value(value)}{hint}")


def accepts(annotation: Any, value: Any) -> bool:
    """Return whether a value fits an annotation; see :func:`check_value`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if origin is Annotated:
        return accepts(arguments[0], value) and all(bound.holds(value) for bound in _bounds(arguments))
    if origin in (Union, types.UnionType):
        return any(accepts(argument, value) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if kind in _LISTS:
        return isinstance(value, list | tuple | set | frozenset) and _accepts_items(origin, arguments, value)
    if kind in _MAPPINGS:
        item = arguments[1] if arguments else Any
        return isinstance(value, Mapping) and all(accepts(item, each) for each in value.values())
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is None or annotation is type(None):
        return value is None
    if annotation in (bool, str):
        return isinstance(value, annotation)
    if annotation is int:
        return is_number and isinstance(value, int) and abs(value) < _TOO_LARGE
    if annotation is float:
        return is_number and math.isfinite(value)
    if annotation is Any:
        return not isinstance(value, float) or math.isfinite(value)
    if _is_enum(annotation):
        return isinstance(value, annotation) or value in annotation.__members__
    return True  # a type that only the constructor knows


def _accepts_items(origin: Any, arguments: tuple[Any, ...], value: Any) -> bool:
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(accepts, arguments, value))
    return all(accepts(arguments[0] if arguments else Any, item) for item in value)


def _bounds(arguments: tuple[Any, ...]) -> list[Any]:
    return [each for each in arguments[1:] if not isinstance(each, Meaning)]


def _is_enum(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Enum)


def describe(annotation: Any, value: Any = None) -> str:
    """Describe what :func:`accepts` accepts, such as ``an integer >= 1 or null``.

    Args:
        annotation: the type.
        value: the value that is refused; of the type whose range it leaves, the range is named alone (``>= 1``).
    """
    found = _alternatives(annotation, value)
    return f"{', '.join(found[:-1])} or {found[-1]}" if len(found) > 1 else found[0]


def _alternatives(annotation: Any, value: Any) -> list[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if origin is Annotated:
        bounds = " and ".join(map(str, _bounds(arguments)))
        meaning = "".join(f" ({each.text})" for each in arguments[1:] if isinstance(each, Meaning))
        only_range = bounds and accepts(arguments[0], value)
        return [bounds + meaning if only_range else f"{describe(arguments[0], value)} {bounds}".rstrip() + meaning]
    if origin in (Union, types.UnionType):
        return [text for argument in arguments for text in _alternatives(argument, value)]
    if origin is Literal:
        return [format_value(choice) for choice in arguments]
    if annotation is None or annotation is type(None):
        return ["null"]
    if kind in _LISTS:
        return [_described_list(origin, arguments)]
    if kind in _MAPPINGS:
        return ["keys and values"]
    names = {int: "an integer", float: "a number", str: "a string", Any: "a value, not NaN or infinite"}
    if annotation is bool:
        return ["true", "false"]
    return list(annotation.__members__) if _is_enum(annotation) else [names.get(annotation, "another value")]


def _described_list(origin: Any, arguments: tuple[Any, ...]) -> str:
    if not arguments:
        return "a list"
    count = f"{len(arguments)} " if origin is tuple and arguments[-1] is not Ellipsis else ""
    item = describe(arguments[0])
    for one, several in (("an integer", "integers"), ("a number", "numbers"), ("a string", "strings")):
        item = item.replace(one, several)
    return f"a list of {count}{item}"


def format_value(value: Any) -> str:
    """Return a value as one would type it, cut after 80 characters."""
    if isinstance(value, list | tuple):
        text = f"[{', '.join(map(format_value, value))}]"
    elif isinstance(value, Mapping):
        text = f"{{{', '.join(f'{key}: {format_value(each)}' for key, each in value.items())}}}"
    elif value is None or isinstance(value, bool):
        text = json.dumps(value)
    elif value in ("True", "False"):  # what a config makes of true where it expects a string
        text = str(value).lower()
    elif isinstance(value, Enum):
        text = value.name
    elif dataclasses.is_dataclass(value) or callable(value):
        text = "something that a config cannot hold"
    else:
        text = f"'{value}'" if isinstance(value, str) and _needs_quotes(value) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _needs_quotes(text: str) -> bool:
    """Return whether a string could be mistaken for a value of another type."""
    if not text.strip() or text != text.strip() or text.lower() in ("null", "true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


@final
@dataclass(frozen=True)
class Option:
    """One argument of a plugin's constructor.

    Attributes:
        name: its key in the config.
        annotation: its type.
        default: its default, or ``inspect.Parameter.empty`` for an argument that the framework supplies.
        doc: its description in the docstring of the class.
    """

    name: str
    annotation: Any
    default: Any
    doc: str

    @property
    def supplied(self) -> bool:
        """Whether the framework supplies it, so that it is not a key of the config."""
        return self.default is inspect.Parameter.empty


@cache
def options(target: type) -> tuple[Option, ...]:
    """Return a constructor's arguments, with those that ``**kwargs`` passes to a base class."""
    found: dict[str, Option] = {}
    for owner in target.__mro__:
        if "__init__" not in vars(owner) or owner is object:
            continue
        constructor = vars(owner)["__init__"]
        try:
            hints = get_type_hints(constructor, include_extras=True)
        except NameError:  # an annotation that exists for type checkers only
            hints = {}
        docs = argument_docs(owner)
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        for each in parameters:
            if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                option = Option(each.name, hints.get(each.name, Any), each.default, docs.get(each.name, ""))
                found.setdefault(each.name, option)
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return tuple(found.values())


def argument_docs(target: type) -> dict[str, str]:
    """Return the ``Args:`` section of a class's docstring (Google style), one line for each argument."""
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
    """Return the first line of a docstring, without its full stop."""
    return (inspect.getdoc(target) or "").partition("\n")[0].rstrip(".")


def is_number_or_text(annotation: Any) -> bool:
    """Return whether an annotation is a union of ``float`` and strings, such as ``float | Literal["auto"]``."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return is_union and {config_type(each) for each in get_args(annotation)} == {float, str}


def config_type(annotation: Any) -> Any:
    """Return the type by which OmegaConf checks a value; ``Any`` where it has none."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if origin is Annotated:
        return config_type(arguments[0])
    if origin is Literal:
        kinds = {type(value) for value in arguments}
        return kinds.pop() if len(kinds) == 1 else Any
    if origin in (Union, types.UnionType):
        inner = [config_type(argument) for argument in arguments if argument is not type(None)]
        if len(inner) == 1:
            return inner[0] if inner[0] is Any or len(arguments) == 1 else inner[0] | None
        return Any
    if kind in (list, Sequence, tuple):
        return list[config_type(arguments[0])] if arguments else list[Any]  # type: ignore[misc]  # made at run time
    if origin in _MAPPINGS:
        if arguments[0] is not str:  # keys of several types, which OmegaConf cannot check
            return Any
        return dict[str, config_type(arguments[1])]  # type: ignore[misc]  # made at run time
    known = inspect.isclass(annotation) and (
        issubclass(annotation, bool | int | float | str | Enum) or dataclasses.is_dataclass(annotation)
    )
    return annotation if known else Any
