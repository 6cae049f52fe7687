"""Argument parser of the commands: a mistake is one line and exit code 1."""

import argparse
import os
import re
from pathlib import Path
from typing import Any, NoReturn, final

from seqlab.errors import UserError

_PLACES = ("RUN_DIR", "SWEEP_DIR", "DIR", "FILE", "FOLDER", "A", "B")


@final
class Parser(argparse.ArgumentParser):
    """A parser whose errors are :class:`UserError`.

    Args:
        verb: the command's name.
        description: begins what ``--help`` shows.
        epilog: ends it.
        texts: what stands on the command line that may begin with a dash: ``--`` goes before it. Empty for none.
    """

    def __init__(self, verb: str, *, description: str, epilog: str | None = None, texts: str = "") -> None:
        super().__init__(f"seqlab {verb}", description=description, epilog=epilog)
        self._verb, self._texts = verb, texts

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to read more."""
        raise UserError(f"{self._verb}: {self._said(message)}; python -m seqlab {self._verb} --help says more")

    def _said(self, message: str) -> str:
        """Put argparse's message into the words of a user."""
        what, _, given = message.partition(": ")
        if what == "the following arguments are required":
            optional = {action.metavar for action in self._actions if action.nargs == "*"}
            return f"{', '.join(name for name in given.split(', ') if name not in optional)} must be given"
        if what == "unrecognized arguments" and not given.startswith("-"):
            return f"too many arguments: {given}"
        if what == "unrecognized arguments":
            dash = f"; {self._texts} that begins with a dash goes after --" if self._texts else ""
            return f"there is no option {given}{dash}"
        if option := re.fullmatch(r"argument (?:.*/)?(--[\w-]+): expected one argument", message):
            return f"{option[1]} needs a value; one that begins with a dash is written {option[1]}=VALUE"
        return message.removeprefix("argument ")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Refuse an empty name, as of a shell variable that is not set: it would mean the working folder."""
        if not arg_string and (action.type is Path or action.metavar in _PLACES):
            raise argparse.ArgumentError(action, "it is empty, where a file or a folder must be named")
        return super()._get_value(action, arg_string)


def typed_text(text: str, name: str) -> str:
    """Read an argument as UTF-8, which Python has not done where the locale has another encoding.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError as error:
        raise UserError(f"{name} is not UTF-8: {text!a}") from error
