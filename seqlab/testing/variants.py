"""Other values of a plugin's options, the checks that they have to pass, and a network that is not there."""

import socket
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin
from unittest import SkipTest

import torch

from seqlab.discovery.signature import options


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
