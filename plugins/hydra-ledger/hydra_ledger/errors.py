"""Errors that a user can fix."""


class LedgerError(ValueError):
    """A mistake of the user; the message is one line that says what is wrong, where, and how to fix it."""


def one_line(error: object) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split()) or type(error).__name__
