"""Errors as a user sees them: one line that names the thing, the place and the way out."""

import difflib
import errno
import itertools
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from seqlab.errors import UserError, one_line
from seqlab.io.atomic import write_advice
from seqlab.io.safe_io import escape_control
from seqlab.plugins.config import CLASSES, choices
from seqlab.plugins.diagnostics import explain_omegaconf, is_crash, raising_plugin
from seqlab.runs.commands import shell_command

_LONGEST = 2_000
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def report_errors(action: Callable[[], int | None]) -> int:
    """Do something and turn what goes wrong into one line and exit code 1.

    ``HYDRA_FULL_ERROR=1`` shows the traceback as well.
    """
    logging.raiseExceptions = False  # a disk that is too full for the log is too full for the run, which says so
    try:
        return action() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has gone, so that nobody is left to be told
        return 1
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" and os.environ.get("SEQLAB_SET_FULL_ERROR") != "1":
            traceback.print_exc()
        print(explain(error), file=sys.stderr)
        return 1


def is_user_error(error: BaseException) -> bool:
    """Whether an error is one that a user can mend."""
    return isinstance(error, UserError | OSError | HydraException | OmegaConfBaseException) or _is_memory(error)


def _is_memory(error: BaseException) -> bool:
    """Whether there was too little memory; torch says so in words."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def explain(error: BaseException, note: str = "") -> str:
    """Put an error into one line, of what a terminal shows and nobody scrolls through.

    Args:
        error: what was raised.
        note: stands in brackets at the end, behind the plugin that crashed.
    """
    line = escape_control(" ".join(_explained(error).splitlines()))
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
    notes = "; ".join(filter(None, [raised_by(error), note]))
    return f"{line} ({notes})" if notes else line


def raised_by(error: BaseException) -> str | None:
    """Name the third party's plugin that crashed; ``None`` where there is none, or it wrote the message for a user."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    if isinstance(first, UserError | OSError | HydraException | OmegaConfBaseException) or _is_memory(first):
        return None
    if first is not error and isinstance(first, ValueError) and not is_crash(first):
        return None
    return raising_plugin(first)


def _explained(error: BaseException) -> str:
    cause = _cause(error)
    if isinstance(cause, UserError):
        return one_line(cause)
    if isinstance(cause, OmegaConfBaseException):
        return explain_omegaconf(cause)
    if isinstance(cause, HydraException):
        return _hydra(cause)
    if isinstance(cause, OSError):
        told = f"{cause.filename}: {cause.strerror}" if cause.filename else one_line(cause)
        return f"{told}; {write_advice(cause)}" if cause.errno in _UNWRITABLE else told
    if _is_memory(cause):
        return f"this takes more memory than there is: {one_line(cause)}"
    return f"{type(cause).__name__}: {one_line(cause)}"


def _cause(error: BaseException) -> BaseException:
    """Find the error that says most: the deepest one that is the user's."""
    best, current = error, error.__cause__
    while current is not None:
        if isinstance(current, UserError | OmegaConfBaseException):
            best = current
        current = current.__cause__
    return best


def _hydra(error: HydraException) -> str:
    if isinstance(error, OverrideParseException):
        if "=" not in error.override and not error.override.startswith("~"):
            return f"{error.override}: this is no option; an option is key=value"
        reason = re.sub(r"^Lexer\w+: .*", "a character must be in quotes", str(error).partition("\n")[0])
        return f"{error.override}: not understood ({reason}); a value with signs in it goes in quotes: 'key=\"value\"'"
    if several := re.match(r"Ambiguous value for argument '(.*?)'", str(error)):
        key = several[1].partition("=")[0]
        sweep = shell_command("-m", several[1])
        return f"{several[1]}: a comma makes a sweep, with -m: {sweep}; a list is {key}=[a,b]"
    if found := re.match(r"Cannot find primary config '(.*?)'", str(error)):
        return f"--config-name={found[1]}: there is no such file in the config folders"
    if swept := re.fullmatch(r"Sweep parameters '(.*)' requires --multirun", str(error).strip()):
        return f"{swept[1]}: this makes a sweep, with -m: {shell_command('-m', swept[1])}"
    found = re.match(r"In '(.*?)': \w+ raised while composing config", str(error))
    if found and isinstance(error.__context__, OmegaConfBaseException):
        return f"{found[1]}.yaml: {explain_omegaconf(error.__context__)}"
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    missing = [line for line in lines if line.startswith("Could not find") or "Could not find '" in line]
    if missing and "Available options in" in str(error):
        named = missing[0].split("'")
        wanted = next((part for part in reversed(named) if "/" in part), named[-2])
        group, _, name = wanted.rpartition("/")
        begin = next(i for i, line in enumerate(lines) if line.startswith("Available options")) + 1
        there = [*itertools.takewhile(lambda line: not line.startswith("Config search path"), lines[begin:])]
        meant = [*(f"{kind}={name}" for kind in CLASSES if name in choices(kind))]
        meant += difflib.get_close_matches(name, there, n=1)
        close = [f"; did you mean {found}?" for found in meant[:1]]
        return f"{group}={name}: there is no such {group}; there are {', '.join(there)}{''.join(close)}"
    kept = [line for line in lines if not line.startswith(("Set the environment", "To append to your config", "See "))]
    return " ".join(kept)
