"""Ownership of a run folder: one process at a time writes into it."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from hydra_ledger import locks
from hydra_ledger.locks import LOCK, OwnedError
from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import check_links, check_within
from seqlab.runs.run_folder import BEST, MODEL, MODEL_CARD, PREPROCESSOR, RESULTS, RESUME

__all__ = ["LOCK", "LOG", "OwnedError", "is_owned", "logging_for", "logging_to", "owned_alone", "owned_folder"]

LOG = "seqlab.log"


@contextmanager
def owned_folder(folder: Path, *, keep_empty: bool = False) -> Iterator[None]:
    """Create a run folder and own it within the context; the system releases the lock however the process ends.

    Only the owner changes the folder. A folder that holds nothing but lock and log at the end is removed; beside other
    files, lock and log are removed if none of them was changed. The owning thread may enter again.

    Raises:
        OwnedError: another process, or another thread of this one, owns it; nothing in the folder was changed.
        UserError: it cannot be written.
    """
    if locks.held(folder):
        yield
        return
    check_links(folder)
    try:
        lock = locks.take(folder)
    except OSError as error:
        raise UserError(
            f"the run folder {relative_path(folder)} cannot be written: {error.strerror}; set hydra.run.dir"
        ) from error
    if lock is None:
        raise OwnedError(f"{relative_path(folder)} is the run of another process just now; set hydra.run.dir")
    before = None
    try:
        before = _contents(folder) if lock.is_new else None
        _remove_unfinished(folder)
        yield
    finally:
        if lock.is_held:  # else this is a forked child, which owns nothing
            if lock.is_in_place:  # the folder may have been moved or removed by hand
                _clean_up(folder, before, keep_empty=keep_empty)
            lock.release()


@contextmanager
def owned_alone(folder: Path, what: str) -> Iterator[None]:
    """Own the folder of a command with an option ``--out``, as :func:`owned_folder` does.

    Raises:
        UserError: another process owns it; ``what`` says what that does.
    """
    with ExitStack() as owner:
        try:
            owner.enter_context(owned_folder(folder))
        except OwnedError as error:
            raise UserError(
                f"another process {what} in {relative_path(folder)} just now; wait for its end, or choose another"
                " folder with --out"
            ) from error
        yield


def is_owned(folder: Path) -> bool:
    """Return whether some process owns a run folder."""
    check_within(folder, folder / LOCK)
    return locks.is_locked(folder)


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Append log messages to the folder's log file, created with the first one; for owners only."""
    handler = logging.FileHandler(folder / LOG, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(message)s"))
    if (thread := threading.current_thread()) is not threading.main_thread():  # of a run trained beside others
        handler.addFilter(lambda record: thread.ident in (record.thread, _LOGGING_FOR.get()))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


_LOGGING_FOR: ContextVar[int | None] = ContextVar("_LOGGING_FOR", default=None)


@contextmanager
def logging_for(thread: int | None) -> Iterator[None]:
    """Write messages of this thread to the log files that another thread opened."""
    token = _LOGGING_FOR.set(thread)
    try:
        yield
    finally:
        _LOGGING_FOR.reset(token)


def _remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of an owner that was killed while it wrote."""
    for name in (MODEL, MODEL_CARD, PREPROCESSOR, RESULTS, RESUME, BEST):
        for stale in folder.glob(f".{name}.*"):
            stale.unlink(missing_ok=True)


def _contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and modification time of each entry of a folder except its lock."""
    with os.scandir(folder) as entries:
        found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries if entry.name != LOCK}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def _clean_up(folder: Path, before: dict[str, tuple[int, int]] | None, *, keep_empty: bool) -> None:
    """Remove lock and log if there is nothing else, and then the folder; or if all other files are as before."""
    with suppress(OSError):
        now = _contents(folder)
        is_empty, had_log = now.keys() <= {LOG}, before is not None and LOG in before
        if is_empty or now == before or (not had_log and {name: now[name] for name in now if name != LOG} == before):
            if not had_log:
                (folder / LOG).unlink(missing_ok=True)
            (folder / LOCK).unlink()
            if is_empty and not had_log and not keep_empty:
                folder.rmdir()
