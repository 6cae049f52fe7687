"""Argument parser of the commands: a mistake is one line and exit code 1."""

import argparse
import re
from typing import NoReturn, final

from seqlab.errors import UserError


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
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            said = f"{self._verb}: {message}"
            if option := re.fullmatch(r"argument (?:.*/)?(--[\w-]+): expected one argument", message):
                said += f"; a value that begins with a dash is written {option[1]}=VALUE"
        elif unknown.startswith("-"):
            said = f"{self._verb}: there is no option {unknown}"
            if self._texts:
                said += f"; {self._texts} that begins with a dash goes after --"
        else:
            said = f"{self._verb}: too many arguments: {unknown}"
        raise UserError(f"{said}; python -m seqlab {self._verb} --help says more")
