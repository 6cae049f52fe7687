"""Errors as one line: what is wrong, where, and how to fix it."""

import difflib
import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from hydra_ledger.errors import LedgerError
from seqlab.errors import UserError, one_line
from seqlab.io.atomic import write_advice
from seqlab.io.safe_io import escape_control
from seqlab.plugins.config import CLASSES, choices
from seqlab.plugins.diagnostics import explain_omegaconf, is_crash, raising_plugin
from seqlab.plugins.hydra_source import sources

_LONGEST = 2_000
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_FEWER = "set fewer data.workers, or 0 to build them in the process that trains"
_ADVICE = ("Set the environment", "To append to your config", "See ")
"""First words of lines of Hydra that do not apply here."""


def report_errors(action: Callable[[], int | None]) -> int:
    """Run an action; print an error as one line and return exit code 1.

    ``HYDRA_FULL_ERROR=1`` prints the traceback, too.
    """
    logging.raiseExceptions = False  # where the disk is full, the run reports it
    try:
        return action() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # nobody reads the output
        return 1
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" and os.environ.get("SEQLAB_SET_FULL_ERROR") != "1":
            traceback.print_exc()
        print(explain(error), file=sys.stderr)
        return 1


def is_user_error(error: BaseException) -> bool:
    """Return whether a user can fix an error."""
    known = UserError | LedgerError | OSError | HydraException | OmegaConfBaseException
    return isinstance(error, known) or _is_memory(error) or _is_dead_worker(error)


def _is_memory(error: BaseException) -> bool:
    """Return whether memory was too small; torch's allocator for CPUs has no type of error for it."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _is_dead_worker(error: BaseException) -> bool:
    """Return whether a process that builds batches was killed; torch has no type of error for it, either."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def explain(error: BaseException, note: str = "") -> str:
    """Describe an error in one printable line, with the plugin that crashed and a note in brackets."""
    line = escape_control(" ".join(_message(error).splitlines()))
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
    notes = "; ".join(filter(None, [crashed_plugin(error), note]))
    return f"{line} ({notes})" if notes else line


def crashed_plugin(error: BaseException) -> str | None:
    """Name the third-party plugin that crashed; ``None`` if none did, or if it wrote the message for a user."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    if is_user_error(first) or (first is not error and isinstance(first, ValueError) and not is_crash(first)):
        return None
    return raising_plugin(first)


def _message(error: BaseException) -> str:
    cause = _cause(error)
    if isinstance(cause, UserError | LedgerError):
        return one_line(cause)
    if isinstance(cause, OmegaConfBaseException):
        return explain_omegaconf(cause)
    if isinstance(cause, HydraException):
        return _hydra_message(cause)
    if isinstance(cause, OSError):
        line = f"{cause.filename}: {cause.strerror}" if cause.filename else one_line(cause)
        return f"{line}; {write_advice(cause)}" if cause.errno in _UNWRITABLE else line
    if _is_memory(cause):
        return f"this takes more memory than there is: {one_line(cause)}"
    if _is_dead_worker(cause):
        return f"a process that builds batches ended, as one that lacks memory is killed: {one_line(cause)}; {_FEWER}"
    return f"{type(cause).__name__}: {one_line(cause)}"


def _cause(error: BaseException) -> BaseException:
    """Return the deepest cause that a user can fix, or the error itself."""
    best, current = error, error.__cause__
    while current is not None:
        if isinstance(current, UserError | OmegaConfBaseException):
            best = current
        current = current.__cause__
    return best


def _hydra_message(error: HydraException) -> str:
    if isinstance(error, OverrideParseException):
        reason = re.sub(r"^Lexer\w+: .*", "a character must be in quotes", str(error).partition("\n")[0])
        return f"{error.override}: not understood ({reason}); quote a value with special characters: 'key=\"value\"'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        return _missing_config(error.missing_cfg_file, error.options or ())
    if isinstance(error.__context__, OmegaConfBaseException):
        place = re.match(r"In '(.*?)'", str(error))
        return (f"{place[1]}.yaml: " if place else "") + explain_omegaconf(error.__context__)
    lines = [line.strip() for line in str(error).split("\n")]
    return " ".join(line for line in lines if line and not line.startswith(_ADVICE))


def _missing_config(name: str, options: Sequence[str]) -> str:
    """Describe a missing config file: a choice of a group, or the primary config."""
    group, _, choice = name.rpartition("/")
    if not group:
        place = f"--config-name={name}" if name == sources().name else f"{name}.yaml"
        return f"{place}: there is no such file in the config folders"
    meant = [f"{kind}={choice}" for kind in CLASSES if choice in choices(kind)]
    meant += difflib.get_close_matches(choice, options, n=1)
    there = f"; there are {', '.join(options)}" if options else ""
    return f"{group}={choice}: there is no such {group}{there}" + (f"; did you mean {meant[0]}?" if meant else "")
