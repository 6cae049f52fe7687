"""Where things are kept that can be made or fetched again."""

import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

log = logging.getLogger("seqlab")

Thing = TypeVar("Thing")
_DAMAGED = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def cache_folder() -> Path:
    """Say where: ``$SEQLAB_CACHE``, or else the user's cache folder."""
    if named := os.environ.get("SEQLAB_CACHE"):
        return Path(named)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("seqlab"))


def cache_path(folder: str, key: Any, suffix: str) -> Path:
    """Choose the file for a key of plain values, and make its folder.

    Raises:
        OSError: the folder cannot be made.
    """
    where = cache_folder() / folder
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{where} cannot be written ({error.strerror}); set SEQLAB_CACHE to another folder") from error
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return where / f"{digest}{suffix}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time make a file of the cache; the others find it made."""
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield


def warn_damaged(path: Path, error: Exception) -> None:
    """Say that a file is made anew."""
    log.warning("the cache %s is damaged (%s); it is made anew", path, type(error).__name__)


def cached_json(folder: str, key: Any, make: Callable[[], Any], take: Callable[[Any], Thing]) -> Thing:
    """Find plain values in the cache, or make and keep them.

    Args:
        folder: of the cache.
        key: plain values that name the thing.
        make: makes it.
        take: gives what the caller wants of it; a ``ValueError`` means that the file is damaged.

    Raises:
        OSError: the cache cannot be written.
    """

    def read(path: Path) -> Thing:
        return take(json.loads(path.read_text("utf-8")))

    def write(path: Path, made: Any) -> None:
        path.write_text(json.dumps(made), "utf-8")

    return _kept(cache_path(folder, key, ".json"), read, make, write, take)


def cached_arrays(folder: str, key: Any, make: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Find arrays in the cache, or make and keep them.

    Raises:
        OSError: the cache cannot be written.
    """

    def read(path: Path) -> dict[str, NDArray[Any]]:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}

    def write(path: Path, made: Mapping[str, NDArray[Any]]) -> None:
        with path.open("wb") as file:
            np.savez(file, **made)  # type: ignore[arg-type]  # numpy's stub takes a flag for one of them

    return _kept(cache_path(folder, key, ".npz"), read, make, write, dict)


def _kept(
    path: Path,
    read: Callable[[Path], Thing],
    make: Callable[[], Any],
    write: Callable[[Path, Any], None],
    take: Callable[[Any], Thing],
) -> Thing:
    """Read a file; or make what belongs there, and write it whole or not at all."""
    with locked(path):
        if path.exists():
            try:
                return read(path)
            except _DAMAGED as error:
                warn_damaged(path, error)
        made = make()
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            write(fresh, made)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)  # of a disk that is full
    return take(made)
