"""Atomic writing and bounded reading of the ledger's JSON files."""

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from hydra_ledger.errors import LedgerError, one_line

LARGEST = 64 * 2**20
"""Bytes of a file, at most."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary file, to the disk, then over the old file, which stays as it was after an error.

    Texts may hold bytes of file names that are not UTF-8, as Python reads them.

    Raises:
        LedgerError: the file cannot be written.
    """
    data = (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "surrogatepass")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}; make room there, or choose another") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object from a regular file of bounded size; ``None`` where there is no such file.

    Raises:
        LedgerError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise LedgerError(f"{path} is not a regular file")
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise LedgerError(f"{path} has more than {LARGEST:,} bytes")
        value = json.loads(data.decode("utf-8", "surrogatepass"))
    except FileNotFoundError:
        return None
    except LedgerError:
        raise
    except (ValueError, OSError, RecursionError, MemoryError) as error:
        raise LedgerError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise LedgerError(f"{path} holds no JSON object")
    return value


def is_plain_name(name: object) -> bool:
    """Return whether something is the name of a file or folder, without a path."""
    return (
        isinstance(name, str) and 0 < len(name) < 256 and name not in (".", "..") and not set(name) & {"/", "\\", "\0"}
    )


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
