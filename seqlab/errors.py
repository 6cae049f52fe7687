"""Errors that a user can fix, errors of foreign data, and checks of ranges."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final, get_args


@final
class UserError(Exception):
    """A mistake of the user; the message is one line that says what is wrong, where, and how to fix it.

    Plugins may raise ``ValueError`` and ``OSError`` for the same purpose while they are built or read data; the
    framework shows all three as one line, without a traceback, and exits with 1.
    """


def one_line(error: object) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def reporting_foreign(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise errors of a block that reads data of others as :class:`UserError`: all errors, or those of some kinds."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        if kinds and not isinstance(error, kinds):
            raise
        raise UserError(f"{what}: {type(error).__name__}: {one_line(error)[:300]}") from error


def check_range(
    name: str,
    value: int | float,
    at_least: int | float = -math.inf,
    at_most: int | float = math.inf,
    *,
    above: int | float = -math.inf,
    below: int | float = math.inf,
) -> None:
    """Check that an argument lies in a range; NaN and infinity lie in none.

    Raises:
        ValueError: it does not.
    """
    if at_least <= value <= at_most and above < value < below:
        return
    bounds = {">=": at_least, ">": above, "<=": at_most, "<": below}
    wanted = " and ".join(f"{sign} {bound}" for sign, bound in bounds.items() if math.isfinite(bound))
    raise ValueError(f"{name} must be {wanted}, got {value}")


def check_choice(name: str, value: str, choices: Any) -> None:
    """Check that an argument is one of the values of a ``Literal`` type.

    Raises:
        ValueError: it is not.
    """
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
