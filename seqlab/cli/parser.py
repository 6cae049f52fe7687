"""Argument parser of the commands: a mistake is one line and exit code 1."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, final

from seqlab.errors import UserError

FIGURE_FORMATS = (".png", ".svg", ".pdf")
"""File name extensions of figures."""


@final
class Parser(argparse.ArgumentParser):
    """Parser whose errors are :class:`UserError`; with ``takes_texts`` a text may start with a dash."""

    def __init__(self, command: str, *, description: str, epilog: str | None = None, takes_texts: bool = False) -> None:
        super().__init__(f"seqlab {command}", description=description, epilog=epilog)
        self._command, self._takes_texts = command, takes_texts

    def add_run_dir(self) -> None:
        """Add the positional argument ``RUN_DIR``."""
        self.add_argument("run_dir", metavar="RUN_DIR", type=path, help="folder of a run")

    def add_json(self) -> None:
        """Add ``--json``."""
        self.add_argument("--json", action="store_true", help="print JSON")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse arguments; options may stand anywhere among positional arguments."""
        parsed, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            dash = self._takes_texts and any(word.startswith("-") for word in unknown)
            hint = "; write -- before a text that starts with a dash" if dash else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise a message of argparse as :class:`UserError`."""
        message = message.removeprefix("argument ")
        raise UserError(f"{self._command}: {message}; see python -m seqlab {self._command} --help")


def integer(least: int) -> Callable[[str], int]:
    """Return an argument type: a whole number that is not less than ``least``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {least}, got {text}")
        return value

    return convert


def path(text: str) -> Path:
    """Convert an argument to a path; an empty one, as of an unset shell variable, would mean the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file or a folder, got an empty text")
    return Path(text)


def figure_path(text: str) -> Path:
    """Convert an argument to the path of a figure."""
    found = path(text)
    if found.suffix.lower() not in FIGURE_FORMATS:
        raise argparse.ArgumentTypeError(f"must end in one of {', '.join(FIGURE_FORMATS)}, got {text}")
    return found


def utf8(text: str) -> str:
    """Decode an argument as UTF-8, whatever the encoding of the locale."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError as error:
        raise argparse.ArgumentTypeError(f"must be UTF-8, got {text!a}") from error
