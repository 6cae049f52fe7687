"""Options of a plugin's constructor: those that nothing reads, and other values to test with."""

import ast
import enum
import inspect
import itertools
import socket
import sys
import textwrap
import types
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any, Generic, Literal, Union, get_args, get_origin
from unittest import SkipTest

import torch

from seqlab.plugins.signature import options
from seqlab.testing.suite import demand


def check_read(target: type) -> None:
    """Demand that each option of a constructor is read somewhere: one that is only checked or kept does nothing.

    An option counts as read if the constructor uses its value for anything but an attribute or an error, or if the
    attribute, or a text of its name, occurs in the modules of the class and its bases.

    Args:
        target: the plugin's type.

    Raises:
        AssertionError: an option is never read; the message names it.
    """
    owners = [owner for owner in target.__mro__ if owner not in (object, ABC, Generic)]
    modules = {owner.__module__ for owner in owners if not owner.__module__.startswith("seqlab.contracts")}
    trees = [tree for name in sorted(modules) if (tree := _parsed(sys.modules.get(name))) is not None]
    constructor = _constructor(target)
    if constructor is None or len(trees) < len(modules):
        return
    read = {name for tree in trees for name in _read(tree)}
    if read & _ALL:
        return
    read |= _of_contract(target)
    names = {option.name for option in options(target)} & {argument.arg for argument in _arguments(constructor)}
    for name in sorted(names):
        kept = _kept(constructor, name)
        demand(
            kept is None or not kept.isdisjoint(read) or name in read,
            f"the option {name} is never read: the constructor takes it, and nothing depends on it",
        )


_ALL = {"__dict__", "vars()", "locals()", "getattr()", "asdict()", "astuple()"}
"""What reads attributes without naming each."""


def _of_contract(target: type) -> set[str]:
    """Give the attributes that the framework reads."""
    owners = [owner for owner in target.__mro__ if owner.__module__.startswith("seqlab.contracts")]
    return {name for owner in owners for name in (*vars(owner), *vars(owner).get("__annotations__", {}))}


def _parsed(module: ModuleType | None) -> ast.Module | None:
    try:
        return ast.parse(inspect.getsource(module)) if module else None
    except (OSError, TypeError, SyntaxError):  # compiled, or typed in
        return None


def _constructor(target: type) -> ast.FunctionDef | None:
    made = vars(target).get("__init__")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(made))) if made else None
    except (OSError, TypeError, SyntaxError):
        return None
    found = tree.body[0] if tree else None
    return found if isinstance(found, ast.FunctionDef) else None


def _arguments(constructor: ast.FunctionDef) -> list[ast.arg]:
    given = constructor.args
    return [*given.posonlyargs, *given.args, *given.kwonlyargs]


def _read(tree: ast.AST) -> Iterator[str]:
    """Give the attributes that are read, all texts that could name one, and the functions that are called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            named = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
            yield f"{node.func.id}({'a name' if named else ''})"
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


def _kept(constructor: ast.FunctionDef, name: str) -> set[str] | None:
    """Give the attributes in which the constructor keeps an argument; ``None`` if it uses it for more."""
    kept: set[str] = set()
    loads = sum(_is(node, name) for node in ast.walk(constructor))
    for node in ast.walk(constructor):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            for place, value in _pairs(node.targets[0], node.value):
                if _is(value, name) and isinstance(place, ast.Attribute):
                    kept.add(place.attr)
                    loads -= 1
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Attribute):
            if _is(node.value, name):
                kept.add(node.target.attr)
                loads -= 1
        elif isinstance(node, ast.If) and all(isinstance(step, ast.Raise) for step in node.body) and not node.orelse:
            loads -= sum(_is(part, name) for part in ast.walk(node))
    return None if loads > 0 else kept


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=False)
    else:
        yield target, value


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def variants(target: type, given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the options with one ``bool``, ``Literal`` or enum changed, for each of its other values.

    Args:
        target: the plugin's type.
        given: the options that are set already.
    """
    for option in options(target):
        if option.supplied:
            continue
        now = given.get(option.name, option.default)
        for value in _choices(option.annotation):
            if value != now:
                shown = value.name if isinstance(value, Enum) else value
                yield f"{option.name}={shown}", {**given, option.name: value}


def _choices(annotation: Any) -> list[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return [value for argument in arguments for value in _choices(argument)]
    if origin is Literal:
        return list(arguments)
    if annotation is bool:
        return [False, True]
    return list(annotation) if isinstance(annotation, type) and issubclass(annotation, Enum) else []


@contextmanager
def no_network() -> Iterator[None]:
    """Let every connection fail at once for a while."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("the check of options opens no connection")

    kept = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = refuse, refuse  # type: ignore[method-assign]  # put back below
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = kept  # type: ignore[method-assign]  # as they were


def hold(suite: Any, checks: Sequence[str], what: str) -> None:
    """Run some checks of a suite.

    Args:
        suite: an instance of it.
        checks: their names.
        what: says which options the suite was made with.

    Raises:
        AssertionError: a check fails; the message begins with the options.
    """
    for check in checks:
        torch.manual_seed(0)
        try:
            getattr(suite, f"test_{check}")()
        except SkipTest:
            continue
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            raise AssertionError(f"with {what}, {check.replace('_', ' ')}: {kind}{error}") from error


_MOST = 8
"""Combinations that are tried; where there are more, each value is tried by itself."""

_SIZES = ("input_size", "hidden_size")


def combinations(target: Any, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the combinations of values that a constructor's ``Literal``, ``bool`` and enum options can take.

    Args:
        target: a class; anything else has no options that are known.
        given: options whose values are settled.

    Returns:
        The options that differ from their defaults, for each combination but the default one. Where there would be more
        than 8, one option at a time.
    """
    values = {name: others for name, others in _other_values(target).items() if name not in given}
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


def _other_values(target: Any) -> dict[str, list[Any]]:
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
