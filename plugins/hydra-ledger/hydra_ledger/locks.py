"""Locks of folders: one process at a time writes into a folder, and the system releases its lock however it ends."""

import errno
import fcntl
import os
import threading
import time
from pathlib import Path
from typing import final

LOCK = ".lock"

_PATIENCE = 0.25
"""Seconds to retry: :func:`is_locked` of another process holds the lock for microseconds."""
_HELD: dict[str, "FolderLock"] = {}
"""Locks of this process, by folder."""


@final
class OwnedError(BlockingIOError):
    """Another process owns the folder."""


@final
class FolderLock:
    """Lock of a folder, held by a thread of this process.

    Attributes:
        is_new: whether the lock file was created for it.
    """

    def __init__(self, folder: Path, descriptor: int, is_new: bool) -> None:
        self.is_new, self._folder, self._key = is_new, folder, _key(folder)
        self._descriptor, self._thread = descriptor, threading.get_ident()
        _HELD[self._key] = self

    @property
    def is_held(self) -> bool:
        """Whether the lock is held; a forked child holds none."""
        return _HELD.get(self._key) is self

    @property
    def is_in_place(self) -> bool:
        """Whether the lock file is still in the folder, which may have been moved or removed by hand."""
        return _is_at(self._descriptor, self._folder / LOCK)

    def is_mine(self) -> bool:
        """Return whether the calling thread holds the lock."""
        return self._thread == threading.get_ident()

    def release(self) -> None:
        """Release the lock; the lock file stays."""
        if self.is_held:
            del _HELD[self._key]
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # at once, also where a child that is being forked has a copy
            os.close(self._descriptor)

    def close(self) -> None:
        """Close the descriptor, without releasing the lock that a parent process holds by its own."""
        os.close(self._descriptor)


def _close_in_child() -> None:
    """Close the locks in a forked child, whose descriptors would hold them beyond the end of its parent."""
    for lock in _HELD.values():
        lock.close()
    _HELD.clear()


os.register_at_fork(after_in_child=_close_in_child)


def held(folder: Path) -> bool:
    """Return whether the calling thread holds the lock of a folder."""
    lock = _HELD.get(_key(folder))
    return lock is not None and lock.is_mine()


def take(folder: Path) -> FolderLock | None:
    """Create a folder and take its lock; ``None`` if another process or another thread of this one has it.

    Raises:
        OSError: the folder or its lock cannot be written.
    """
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
                return FolderLock(folder, descriptor, is_new)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not taken and time.monotonic() > until:
            return None
        time.sleep(0.005)


def is_locked(folder: Path) -> bool:
    """Return whether some process holds the lock of a folder."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _flock(descriptor, fcntl.LOCK_SH)  # shared, so that two callers do not exclude each other
    finally:
        os.close(descriptor)


def _key(folder: Path) -> str:
    return str(folder.resolve())


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
