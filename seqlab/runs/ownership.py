"""Ownership of a run folder: one process at a time writes into it."""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import final

from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import check_links, check_within
from seqlab.runs.run_folder import BEST, MODEL, MODEL_CARD, PREPROCESSOR, RESULTS, RESUME

LOCK = ".lock"
LOG = "seqlab.log"

_PATIENCE = 0.25
"""Seconds to retry: :func:`is_owned` of another process holds the lock for microseconds."""
_HELD: dict[str, tuple[int, int]] = {}
"""Folders that this process owns: the owning thread, and the descriptor that holds the lock."""


def _close_in_child() -> None:
    """Close the locks in a forked child, whose descriptors would hold them beyond the end of its parent."""
    for _, lock in _HELD.values():
        os.close(lock)
    _HELD.clear()


os.register_at_fork(after_in_child=_close_in_child)


@final
class OwnedError(BlockingIOError):
    """Another process owns the run folder."""


@contextmanager
def owned_folder(folder: Path, *, keep_empty: bool = False) -> Iterator[None]:
    """Create a run folder and own it within the context; the system releases the lock however the process ends.

    Only the owner changes the folder. A folder that holds nothing but lock and log at the end is removed; beside other
    files, lock and log are removed if none of them was changed. The owning thread may enter again.

    Raises:
        OwnedError: another process, or another thread of this one, owns it; nothing in the folder was changed.
        UserError: it cannot be written.
    """
    key = str(folder.resolve())
    if key in _HELD and _HELD[key][0] == threading.get_ident():
        yield
        return
    check_links(folder)
    try:
        lock, is_new = _locked(folder)
    except OSError as error:
        raise UserError(
            f"the run folder {relative_path(folder)} cannot be written: {error.strerror}; set hydra.run.dir"
        ) from error
    if lock is None:
        raise OwnedError(f"{relative_path(folder)} is the run of another process just now; set hydra.run.dir")
    _HELD[key] = threading.get_ident(), lock
    before = None
    try:
        before = _contents(folder) if is_new else None
        _remove_unfinished(folder)
        yield
    finally:
        if _HELD.pop(key, None) is not None:  # else this is a forked child, which owns nothing
            if _is_at(lock, folder / LOCK):  # the folder may have been moved or removed by hand
                _clean_up(folder, before, keep_empty=keep_empty)
            fcntl.flock(lock, fcntl.LOCK_UN)  # at once, also where a child that is being forked has a copy
            os.close(lock)


def is_owned(folder: Path) -> bool:
    """Return whether some process owns a run folder."""
    path = check_within(folder, folder / LOCK)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _flock(descriptor, fcntl.LOCK_SH)  # shared, so that two callers do not exclude each other
    finally:
        os.close(descriptor)


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


def _locked(folder: Path) -> tuple[int | None, bool]:
    """Return a descriptor that holds the folder's lock, ``None`` if another has it; and whether the file is new."""
    until = time.monotonic() + _PATIENCE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor, is_new = _opened(folder / LOCK)
        except FileNotFoundError:  # the last owner has just removed the folder
            continue
        try:
            taken = _flock(descriptor, fcntl.LOCK_EX)
            # The file may have been removed or replaced between opening and locking.
            if taken and _is_at(descriptor, folder / LOCK):
                return descriptor, is_new
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not taken and time.monotonic() > until:
            return None, False
        time.sleep(0.005)


def _opened(path: Path) -> tuple[int, bool]:
    """Open or create a file; return whether it was created."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, flags), False


def _flock(descriptor: int, kind: int) -> bool:
    """Try to lock a file; return whether that succeeded."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one at this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


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
