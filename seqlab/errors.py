"""Errors that a user can mend."""

from typing import final


@final
class UserError(Exception):
    """A mistake that the user can put right: its message is one line that names the thing, the place and the way out.

    Plugins may raise ``ValueError`` and ``OSError`` for the same purpose while they are built or read data; the
    framework shows all three as one line, without a traceback, and exits with 1.
    """


def one_line(error: object) -> str:
    """Fold an error's message to one line."""
    return " ".join(str(error).split()) or type(error).__name__
