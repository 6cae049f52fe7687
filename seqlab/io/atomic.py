"""Atomic writing of files: to a temporary file, to the disk, then renamed over the old one."""

import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, final

from seqlab.errors import UserError
from seqlab.io.formatting import relative_path
from seqlab.io.safe_io import LARGEST_TEXT

_BUFFER = 1 << 18
"""Bytes to collect before they are written: ``torch.save`` writes 200 pieces."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file in the same folder, which replaces ``path`` at the end of the block.

    After an error or a crash the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file of a run, by a function that is given the open file.

    Raises:
        UserError: the disk is full, or the folder cannot be written; the old file is as it was.
    """
    with (
        reported_write_errors(path) as errors,
        replacing(path) as temporary,
        io.BufferedWriter(_CheckedFile(temporary, errors), _BUFFER) as file,
    ):
        write(file)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a binary file of a run, as :func:`write_atomically` does."""
    write_atomically(path, lambda file: file.write(data))


def write_text(path: Path, text: str) -> None:
    """Write a text file of a run as UTF-8, as :func:`write_atomically` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON: two spaces, text as it is, NaN and infinity as null.

    Raises:
        UserError: the file cannot be written, or would be too large to be read again.
    """
    data = (json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    if len(data) > LARGEST_TEXT:
        raise UserError(f"{relative_path(path)} must have <= {LARGEST_TEXT:,} bytes, got {len(data):,}")
    write_bytes(path, data)


def append_text(path: Path, text: str) -> None:
    """Append to a text file of a run; a crash may cut off the last line."""
    with reported_write_errors(path), path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


@contextmanager
def reported_write_errors(path: Path) -> Iterator[list[OSError]]:
    """Turn an error of the system while a file is written into one line with its name and how to fix it.

    Yields a list for errors of the system that a writer replaces by its own, as torch does.
    """
    errors: list[OSError] = []
    try:
        yield errors
    except Exception as error:
        cause = errors[0] if errors else error
        if not isinstance(cause, OSError):
            raise
        raise UserError(f"{relative_path(path)} cannot be written: {cause.strerror}; {write_advice(cause)}") from error


def write_advice(error: OSError) -> str:
    """Describe how to fix a file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there, then continue with `python -m seqlab resume`, or a single run with ckpt_path=last"
    return "make the folder writable, or choose another (hydra.run.dir, or hydra.sweep.dir of a sweep)"


@final
class _CheckedFile(io.FileIO):
    """A file that keeps the first error of writing it."""

    def __init__(self, path: Path, errors: list[OSError]) -> None:
        super().__init__(path, "wb")
        self._errors = errors

    def write(self, data: Any) -> int:
        """Write all of the data: on a full disk, ``FileIO`` writes a part without an error."""
        view, written = memoryview(data).cast("B"), 0
        try:
            while written < len(view):
                written += super().write(view[written:]) or 0
        except OSError as error:
            self._errors.append(error)
            raise
        return written


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def finite(value: Any) -> Any:
    """Replace numbers of JSON values that are not finite by ``None``."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
