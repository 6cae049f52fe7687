"""Cache of files that can be generated or downloaded again."""

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

from seqlab.io.atomic import replacing

log = logging.getLogger("seqlab")

T = TypeVar("T")
_DAMAGED = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def cache_folder() -> Path:
    """Return the cache folder: ``$SEQLAB_CACHE``, or else the user's one."""
    if named := os.environ.get("SEQLAB_CACHE"):
        return Path(named)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("seqlab"))


def cache_path(folder: str, key: Any, suffix: str) -> Path:
    """Return the file for a key of plain values, and create its folder."""
    where = cache_folder() / folder
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{where} cannot be written ({error.strerror}); set SEQLAB_CACHE to another folder") from error
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return where / f"{digest}{suffix}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a cache file, so that one process generates it and the others wait."""
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield


def warn_damaged(path: Path, error: Exception) -> None:
    """Warn that a damaged file is generated again."""
    log.warning("the cache file %s is damaged (%s) and is generated again", path, type(error).__name__)


def cached_json(folder: str, key: Any, make: Callable[[], Any], parse: Callable[[Any], T]) -> T:
    """Read plain values from the cache, or generate and keep them.

    Args:
        folder: of the cache.
        key: plain values that identify the result.
        make: generates the values.
        parse: converts them to what the caller wants; a ``ValueError`` means that the file is damaged.
    """

    def write(path: Path, made: Any) -> None:
        path.write_text(json.dumps(made), "utf-8")

    return _cached(
        cache_path(folder, key, ".json"), lambda path: parse(json.loads(path.read_text("utf-8"))), make, write, parse
    )


def cached_arrays(folder: str, key: Any, make: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Read arrays from the cache, or generate and keep them."""

    def read(path: Path) -> dict[str, NDArray[Any]]:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}

    def write(path: Path, made: Mapping[str, NDArray[Any]]) -> None:
        with path.open("wb") as file:
            np.savez(file, **made)  # type: ignore[arg-type]  # numpy's stub takes a flag for one of them

    return _cached(cache_path(folder, key, ".npz"), read, make, write, dict)


def _cached(
    path: Path,
    read: Callable[[Path], T],
    make: Callable[[], Any],
    write: Callable[[Path, Any], None],
    parse: Callable[[Any], T],
) -> T:
    with locked(path):
        if path.exists():
            try:
                return read(path)
            except _DAMAGED as error:
                warn_damaged(path, error)
        made = make()
        with replacing(path) as temporary:
            write(temporary, made)
    return parse(made)
