"""What a constructor says of its arguments: names, types, defaults, and their lines in the docstring."""

import dataclasses
import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, final, get_args, get_origin, get_type_hints


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
