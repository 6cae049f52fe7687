"""Files whose bytes are there: one of ten terabytes may be a hole, which takes no place and for ever to read."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

from seqlab.bounded import open_regular

_LARGE = 64 * 2**20


def check_solid(file: BinaryIO) -> int:
    """Refuse a large file of which next to nothing is on the disk; give its bytes.

    Raises:
        ValueError: it is one.
    """
    found = os.fstat(file.fileno())
    size, there = found.st_size, getattr(found, "st_blocks", 0) * 512
    if size > _LARGE and (0 < there < size / 10 or (not there and _is_hole(file.fileno()))):
        raise ValueError(f"it says {size:,} bytes, of which {there:,} are on the disk")
    return size


def _is_hole(descriptor: int) -> bool:
    """Ask the system whether a file has any data; some that lie elsewhere take no blocks here."""
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except AttributeError:
        return False
    except OSError as error:
        return error.errno == errno.ENXIO
    os.lseek(descriptor, 0, os.SEEK_SET)
    return False


def read_solid(path: Path) -> bytes:
    """Read a regular file of any size that is there.

    Raises:
        UserError: it is no regular file.
        ValueError: it is a hole.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        check_solid(file)
        return file.read()
