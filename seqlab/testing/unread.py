"""Options of a constructor that nothing reads."""

import ast
import inspect
import sys
import textwrap
from abc import ABC
from collections.abc import Iterator
from types import ModuleType
from typing import Generic

from seqlab.discovery.signature import options
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
