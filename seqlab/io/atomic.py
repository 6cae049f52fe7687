"""Atomic writing of files."""

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


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that a crash leaves either the old one or the new one, whole and on the disk.

    Raises:
        UserError: the disk is full, or the folder cannot be written; the old file is as it was.
    """
    with reported_write_errors(path) as faults:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with _Noting(descriptor, faults) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
            sync_folder(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def reported_write_errors(path: Path) -> Iterator[list[OSError]]:
    """Turn what the system says against writing a file into one line with its name and the way out.

    Gives a list for the system's errors that a writer hides behind one of its own, as torch does.

    Raises:
        UserError: the system said something.
    """
    faults: list[OSError] = []
    try:
        yield faults
    except Exception as error:
        fault = faults[0] if faults else error
        if not isinstance(fault, OSError):
            raise
        raise UserError(f"{relative_path(path)} cannot be written: {fault.strerror}; {write_advice(fault)}") from error


def write_advice(fault: OSError) -> str:
    """Say what helps when a file cannot be written."""
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there, and go on with the verb resume, or a single run with ckpt_path=last"
    return "make the folder writable, or choose another (hydra.run.dir; of a sweep hydra.sweep.dir)"


@final
class _Noting(io.FileIO):
    """A file that remembers why it could not be written."""

    def __init__(self, descriptor: int, faults: list[OSError]) -> None:
        super().__init__(descriptor, "wb")
        self._faults = faults

    def write(self, data: Any) -> int:
        """Write all of it: a full disk takes a part and says nothing."""
        view, written = memoryview(data).cast("B"), 0
        try:
            while written < len(view):
                written += super().write(view[written:]) or 0
        except OSError as error:
            self._faults.append(error)
            raise
        return written


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Make a renaming in a folder last through a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON: two spaces, text as it is, NaN as null.

    Raises:
        UserError: the file cannot be written, or would be too large to be read again.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if len(text) > LARGEST_TEXT // 4 and len(text.encode("utf-8")) > LARGEST_TEXT:
        most = f"{LARGEST_TEXT:,} bytes at most, as that of a vocabulary of millions of words"
        raise UserError(f"{relative_path(path)} would be larger than such a file may be ({most}); make it smaller")
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8."""
    write_atomically(path, lambda file: _write(file, text.encode("utf-8")))


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
