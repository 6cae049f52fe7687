"""Other values of a constructor's options, as the checks try them."""

import enum
import inspect
import itertools
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from seqlab.discovery.signature import options

_MOST = 8
"""Combinations that are tried; where there are more, each value is tried by itself."""

_SIZES = ("input_size", "hidden_size")


def variants(target: Any, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the combinations of values that a constructor's ``Literal``, ``bool`` and enum options can take.

    Args:
        target: a class; anything else has no options that are known.
        given: options whose values are settled.

    Returns:
        The options that differ from their defaults, for each combination but the default one. Where there would be more
        than 8, one option at a time.
    """
    values = {name: others for name, others in _choices(target).items() if name not in given}
    combinations = 1
    for others in values.values():
        combinations *= 1 + len(others)
    if combinations > _MOST:
        return [{name: value} for name, others in values.items() for value in others]
    sets = itertools.product(*([(name, value) for value in (_Default, *others)] for name, others in values.items()))
    found = [{name: value for name, value in chosen if value is not _Default} for chosen in sets]
    return [chosen for chosen in found if chosen]


def numeric(target: Any, given: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """List a constructor's numeric options with a few values besides the default, to be tried in turn."""
    if not isinstance(target, type):
        return {}
    found: dict[str, Sequence[float]] = {}
    for option in options(target):
        kinds = {option.annotation, *get_args(option.annotation)}
        if option.supplied or option.name in given or option.name in _SIZES or kinds & {bool, str}:
            continue
        default = option.default
        if float in kinds:
            known = float(default) if isinstance(default, int | float) else 0.0
            tried = (known / 2, known + 0.5, 0.75, 0.3, 2 * known + 1)  # half of it is in its range
            found[option.name] = [v for v in tried if v not in (default, 0.0)]
        elif int in kinds:
            whole = default if isinstance(default, int) else 0
            found[option.name] = [v for v in (whole + 1, 2 * whole, whole - 1, 2, 4) if v != default]
    return found


def told(chosen: Mapping[str, Any]) -> str:
    """Write options as they are typed."""
    return ", ".join(f"{name}={getattr(value, 'name', value)}" for name, value in chosen.items())


class _Default:
    """Stands for an option's default."""


def _choices(target: Any) -> dict[str, list[Any]]:
    """Find the values besides the default of each option that has a finite number of them."""
    if not isinstance(target, type):
        return {}
    found = {}
    for option in options(target):
        if not option.supplied:
            others = [value for value in _values(option.annotation) if not _same(value, option.default)]
            if others:
                found[option.name] = others
    return found


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _values(annotation: Any) -> list[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return list(arguments)
    if annotation is bool:
        return [False, True]
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return list(annotation)
    if origin in (Union, types.UnionType):
        found = [value for argument in arguments for value in _values(argument)]
        return [*found, None] if found and type(None) in arguments else found
    return []
