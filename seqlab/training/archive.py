"""Archives of ``torch.save`` that others may have written: what is in one is known before torch reads it."""

import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable
from typing import Any, BinaryIO

from torch import Tensor, strided

from seqlab.bounded import DEEPEST

_LARGEST_PAGE = 4 * 2**20
"""Bytes of the list of what is in a checkpoint: some 30,000 tensors."""
_MOST_VALUES = 2**21
_SLACK = 2**20
_KNOWN = re.compile(
    r"collections (OrderedDict|Counter)|(builtins|__builtin__) (set|complex)|_codecs encode|torch (Size|device)|"
    r"torch [A-Z][A-Za-z0-9]*Storage|torch (bool|bfloat16|(u?int|float|complex)\d+\w*)|"
    r"torch\._utils _rebuild_(tensor_v2|parameter)|torch\.serialization _get_layout"
)
"""What a checkpoint may call. torch allows more with ``weights_only=True``: ``bytearray(10**10)`` among it."""


_UNNAMED = ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
"""Other ways to name what is called, of protocols that torch does not write."""


def check_archive(file: BinaryIO) -> None:
    """Check that nothing in a checkpoint is packed or calls what makes much of little, and that it reads in one way.

    Raises:
        ValueError: it is no archive as torch writes it.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no archive as torch.save writes it; pickles are not read")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        size = file.seek(0, os.SEEK_END)
        if archive.comment or _directory(file, size) != archive.start_dir:
            raise ValueError("it can be read in two ways, as it has more than one directory")
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("a name is in it twice")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("something in it is packed, which torch.save does not do")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("it says that more is in it than it has bytes")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _LARGEST_PAGE:
                    raise ValueError("the list of what is in it is too long")
                _check_calls(archive.read(entry))
    file.seek(0)


def _directory(file: BinaryIO, size: int) -> int:
    """Find where an archive's last bytes say that its directory begins, as torch's reader takes them.

    Python's moves the directory, and all that it names, where bytes stand before the archive: of a file made for it,
    the two would read different lists. Layout: APPNOTE.TXT 4.3.14 to 4.3.16.
    """
    file.seek(size - 22)
    signature, *_, place, _ = struct.unpack("<4s4H2LH", file.read(22))
    if signature != b"PK\5\6":
        return -1
    if place != 0xFFFFFFFF or size < 42:
        return int(place)
    file.seek(size - 42)
    signature, _, place, _ = struct.unpack("<4sLQL", file.read(20))
    if signature != b"PK\6\7" or place > size - 56 - 42:
        return -1
    file.seek(place)
    end = struct.unpack("<4sQ2H2L4Q", file.read(56))
    return int(end[-1]) if end[0] == b"PK\6\6" else -1


def _check_calls(page: bytes) -> None:
    """Look through a pickle, without running it, for what it would call."""
    for code, argument, _ in pickletools.genops(page):
        if code.name in _UNNAMED:
            raise ValueError(f"weights_only: it calls by {code.name}, which torch.save does not write")
        if code.name == "GLOBAL" and not _KNOWN.fullmatch(str(argument)):
            raise ValueError(f"weights_only: it calls {str(argument)[:80]!a}, which no checkpoint needs")


def check_values(value: Any, size: int) -> None:
    """Refuse what a file of so many bytes cannot honestly hold: few values that stand for very many.

    A list that holds another one twice, and so on sixty times, is walked through for ever; a tensor may be a view of
    one number a million times.

    Raises:
        ValueError: it holds such a thing.
    """
    numbers, seen = 0, 0
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, Tensor):
                numbers += each.numel() if each.layout is strided else size + _SLACK
            deeper += _inner(each)
            if seen + len(deeper) > _MOST_VALUES:
                raise ValueError("it has too many values")
        if numbers > size + _SLACK:
            raise ValueError(f"its tensors are of {numbers:,} numbers, and it has {size:,} bytes")
        if not deeper:
            return
        level, seen = deeper, seen + len(deeper)
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list | tuple | set) else ()
