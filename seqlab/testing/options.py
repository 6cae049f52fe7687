"""Constructor options of a plugin: defaults, options that nothing reads, and other values to test."""

import ast
import inspect
import itertools
import socket
import sys
import textwrap
import types
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any, Generic, Literal, Union, get_args, get_origin
from unittest import SkipTest

import torch

from seqlab.contracts import UserError
from seqlab.contracts.task import LengthProtocol
from seqlab.plugins.signature import options
from seqlab.testing.suite import require


def check_defaults(made: object) -> None:
    """Require a default of every argument of an object's constructor."""
    target: type = type(made)
    bare = [option.name for option in options(target) if option.supplied]
    require(not bare, f"the constructor of {target.__name__} needs {', '.join(bare)}; each must have a default")


def has_option(made: object, name: str) -> bool:
    """Return whether an object's constructor takes an argument of this name."""
    target: type = type(made)
    return any(option.name == name for option in options(target))


# Options that nothing reads ------------------------------------------------------------------------------------------


def check_read(target: type) -> None:
    """Require each option of a constructor to be read: one that is only validated or stored has no effect.

    An option counts as read if the constructor uses its value for anything but an attribute or an error, or if the
    attribute, or a text of its name, occurs in the modules of the class and its bases.
    """
    owners = [owner for owner in target.__mro__ if owner not in (object, ABC, Generic)]
    modules = {owner.__module__ for owner in owners if not _is_contract(owner)}
    trees = [tree for name in sorted(modules) if (tree := _parse(sys.modules.get(name))) is not None]
    constructor = _constructor(target)
    if constructor is None or len(trees) < len(modules):
        return
    read = {name for tree in trees for name in _names_read(tree)}
    if read & _READS_ALL:
        return
    for owner in filter(_is_contract, owners):  # attributes that the framework reads
        read |= {*vars(owner), *vars(owner).get("__annotations__", {})}
        read |= {*_names_read(_parse(sys.modules[owner.__module__]) or ast.Module([], []))}
    given = constructor.args
    arguments = {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    for name in sorted({option.name for option in options(target)} & arguments):
        stored = _attributes_of(constructor, name)
        require(
            stored is None or stored & read or name in read,
            f"the option {name} is never read: the constructor takes it, and nothing depends on it",
        )


_READS_ALL = {"__dict__", "vars()", "locals()", "getattr()", "asdict()", "astuple()"}
"""What reads attributes without naming each."""


def _is_contract(owner: type) -> bool:
    return owner.__module__.startswith("seqlab.contracts")


def _parse(code: ModuleType | Callable[..., Any] | None) -> ast.Module | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(code))) if code else None
    except (OSError, TypeError, SyntaxError):  # compiled, or typed in
        return None


def _constructor(target: type) -> ast.FunctionDef | None:
    tree = _parse(vars(target).get("__init__"))
    return tree.body[0] if tree and isinstance(tree.body[0], ast.FunctionDef) else None


def _names_read(tree: ast.AST) -> Iterator[str]:
    """Yield the attributes that are read, all texts that could name one, and the functions that are called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            named = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
            yield f"{node.func.id}({'a name' if named else ''})"
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


def _attributes_of(constructor: ast.FunctionDef, name: str) -> set[str] | None:
    """Return the attributes in which the constructor stores an argument; ``None`` if it also uses it otherwise."""
    stored: set[str] = set()
    loads = sum(_is(node, name) for node in ast.walk(constructor))
    for node in ast.walk(constructor):
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=False))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.If) and all(isinstance(step, ast.Raise) for step in node.body) and not node.orelse:
            loads -= sum(_is(part, name) for part in ast.walk(node))
        for target, value in pairs:
            if _is(value, name) and isinstance(target, ast.Attribute):
                stored.add(target.attr)
                loads -= 1
    return None if loads > 0 else stored


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


# Other values --------------------------------------------------------------------------------------------------------

_MOST_COMBINATIONS = 8
_SIZES = ("input_size", "hidden_size")


def single_changes(target: Any, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each ``bool``, ``Literal`` and enum option of a class with each value but its present one."""
    for option in options(target) if isinstance(target, type) else ():
        if option.annotation == LengthProtocol:  # short held-out splits of a curriculum are no fault
            continue
        now = given.get(option.name, option.default)
        for value in () if option.supplied else _choices(option.annotation):
            if type(value) is not type(now) or value != now:
                yield {option.name: value}


def combinations(target: Any, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what differs from the defaults in each combination of ``Literal``, ``bool`` and enum options.

    Options in ``given`` stay as they are. With more than 8 combinations, one option is changed at a time.
    """
    changes = [change for change in single_changes(target, given) if not change.keys() & given.keys()]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for change in changes:
        (name,) = change
        by_name.setdefault(name, [{}]).append(change)
    product = itertools.islice(itertools.product(*by_name.values()), _MOST_COMBINATIONS + 1)
    found = [{name: value for change in chosen for name, value in change.items()} for chosen in product]
    return changes if len(found) > _MOST_COMBINATIONS else [chosen for chosen in found if chosen]


def numeric(
    target: Any, given: Mapping[str, Any], accepts: Callable[[Mapping[str, Any]], bool]
) -> Iterator[dict[str, Any]]:
    """Yield each numeric option of a constructor with the first of a few other values that is accepted."""
    for option in options(target) if isinstance(target, type) else ():
        kinds = {option.annotation, *get_args(option.annotation)}
        if option.supplied or option.name in given or option.name in _SIZES or kinds & {bool, str}:
            continue
        default, tried = option.default, list[float]()
        if float in kinds:
            known = float(default) if isinstance(default, int | float) else 0.0
            tried = [known / 2, known + 0.5, 0.75, 0.3, 2 * known + 1]  # half of it is in its range
        elif int in kinds:
            whole = default if isinstance(default, int) else 0
            tried = [whole + 1, 2 * whole, whole - 1, 2, 4]
        changes = ({option.name: value} for value in tried if value != default and (value or float not in kinds))
        if (chosen := next(filter(accepts, changes), None)) is not None:
            yield chosen


def format_options(chosen: Mapping[str, Any]) -> str:
    """Return options as they are typed."""
    return ", ".join(f"{name}={getattr(value, 'name', value)}" for name, value in chosen.items())


def _choices(annotation: Any) -> list[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        found = [value for argument in arguments for value in _choices(argument)]
        return [*found, None] if found and type(None) in arguments else found
    if origin is Literal:
        return list(arguments)
    if annotation is bool:
        return [False, True]
    return list(annotation) if inspect.isclass(annotation) and issubclass(annotation, Enum) else []


def check_options(suite: Any, prepare: str, checks: Sequence[str], **members: Any) -> None:
    """Run some checks of a suite for each other value of a ``bool``, ``Literal`` or enum option.

    Args:
        suite: an instance of it; a value that contradicts another option, or needs what is not installed, is skipped.
        prepare: the suite's method that raises an error for such a value.
        checks: their names.
        members: further attributes of the changed suites.
    """
    for change in single_changes(type(suite.make()), suite.options):
        what = format_options(change)
        changed = {**members, "options": {**suite.options, **change}}
        one: Any = type(f"{type(suite).__name__}_{what}", (type(suite),), changed)()
        try:
            with _no_network():
                getattr(one, prepare)()
        except (ValueError, OSError, UserError, ImportError):
            continue
        for check in checks:
            torch.manual_seed(0)
            try:
                getattr(one, f"test_{check}")()
            except SkipTest:
                continue
            except Exception as error:
                kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                raise AssertionError(f"with {what}, {check.replace('_', ' ')}: {kind}{error}") from error


@contextmanager
def _no_network() -> Iterator[None]:
    """Let every connection fail at once."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("the check of options opens no connection")

    kept = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = refuse, refuse  # type: ignore[method-assign]  # put back below
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = kept  # type: ignore[method-assign]  # as they were
