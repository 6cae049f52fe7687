"""Errors that a user can fix, and checks of ranges."""

import math
from typing import final


@final
class UserError(Exception):
    """A mistake of the user; the message is one line that says what is wrong, where, and how to fix it.

    Plugins may raise ``ValueError`` and ``OSError`` for the same purpose while they are built or read data; the
    framework shows all three as one line, without a traceback, and exits with 1.
    """


def one_line(error: object) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def check_range(
    *, at_least: float = -math.inf, at_most: float = math.inf, below: float = math.inf, **values: float | None
) -> None:
    """Check that named values are in a range; ``None`` is in any, NaN in none.

    Raises:
        ValueError: such as ``depth must be >= 1, got -3``.
    """
    for name, value in values.items():
        if value is None:
            continue
        if not value >= at_least:
            raise ValueError(f"{name} must be >= {at_least}, got {value}")
        if value > at_most:
            raise ValueError(f"{name} must be <= {at_most}, got {value}")
        if value >= below < math.inf:
            raise ValueError(f"{name} must be < {below}, got {value}")
