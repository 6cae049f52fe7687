"""Safe reading of untrusted files: regular, bounded, not sparse; JSON of bounded depth; paths that stay in a folder."""

import errno
import json
import os
import re
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from seqlab.errors import UserError

_Number = TypeVar("_Number", int, float)
LARGEST_TEXT = 64 * 2**20
"""Bytes of a JSON or CSV file, which takes about ten times as much memory when it is parsed."""
DEEPEST = 64
"""Levels of lists and objects in a JSON file."""
_MOST_CONTAINERS, _MOST_VALUES, _MOST_KEYS = 2**20, 2**23, 2**21
_LARGE = 64 * 2**20
_RATIO, _SMALL = 10, 32 * 2**20
_MOST_MARKS = 1_000
_LONG = re.compile(rf"[^\w\s\x00-\x7f]{{{_MOST_MARKS + 1},}}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters that a terminal obeys, all but tab and line ends; and surrogates, which cannot be printed."""
_ESCAPED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""The same, and the characters that change the direction of text."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; a pipe, a device or a folder is refused."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, at_most: int = LARGEST_TEXT) -> bytes:
    """Read a regular file of bounded size."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > at_most:
            raise UserError(f"{path} has {size:,} bytes; such a file has {at_most:,} at most")
        data = file.read(at_most + 1)  # the reported size may be wrong, as that of /proc is
    if len(data) > at_most:
        raise UserError(f"{path} has more than {at_most:,} bytes")
    return data


def read_not_sparse(path: Path) -> bytes:
    """Read a regular file of any size that is not sparse."""
    with open_regular(path) as file:
        check_not_sparse(file)
        return file.read()


def check_not_sparse(file: BinaryIO) -> int:
    """Refuse a large sparse file, most of which is not on the disk; return its size."""
    found = os.fstat(file.fileno())
    size, there = found.st_size, getattr(found, "st_blocks", 0) * 512
    if size > _LARGE and (0 < there < size / 10 or (not there and _has_no_data(file.fileno()))):
        raise ValueError(f"it says {size:,} bytes, of which {there:,} are on the disk")
    return size


def _has_no_data(descriptor: int) -> bool:
    """Return whether a file has no data; on some file systems, a file with data takes no blocks."""
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except AttributeError:
        return False
    except OSError as error:
        return error.errno == errno.ENXIO
    os.lseek(descriptor, 0, os.SEEK_SET)
    return False


def parse_json(data: bytes, *, plain: bool = False) -> Any:
    """Parse untrusted JSON: unique keys, finite numbers, bounded depth and number of values.

    Args:
        data: UTF-8.
        plain: whether strings must be free of control characters, since they are printed.
    """
    opened = data.count(b"[") + data.count(b"{")
    if opened > _MOST_CONTAINERS or data.count(b",") > _MOST_VALUES or data.count(b":") > _MOST_KEYS:
        raise ValueError("it has too many values")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=_constant, parse_float=_float,
            parse_int=_int,
        )  # fmt: skip
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from None
    check_json(value, plain=plain)
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of a JSON parser's pairs."""
    made = dict(pairs)
    if len(made) < len(pairs):
        double = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {escape_control(double)[:80]!r} is there twice")
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    return _bounded(float(text), float("inf"), text)


def _int(text: str) -> int:
    return _bounded(int(text), 2**64, text)  # which refuses thousands of digits by itself


def _bounded(value: _Number, limit: float, text: str) -> _Number:
    if not abs(value) < limit:
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def check_json(value: Any, *, plain: bool = False) -> None:
    """Check the depth of JSON values, without recursion."""
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                deeper += each.values()
                if plain:
                    deeper += each.keys()
            elif isinstance(each, list):
                deeper += each
            elif plain and isinstance(each, str) and (found := _CONTROL.search(each)):
                raise ValueError(f"a text has the control character {found[0]!a}: {escape_control(each)[:80]}")
        if not deeper:
            return
        level = deeper
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def check_within(folder: Path, path: Path) -> Path:
    """Return the path, which neither a link nor ``..`` leads out of the folder."""
    if path.parent == folder and path.name != ".." and not path.is_symlink():
        return path
    try:
        root, real = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} is a link in a cycle") from error
    if not real.is_relative_to(root):
        raise UserError(f"{path} leads out of {folder}, to {real}; put a copy there instead of the link")
    return path


def is_plain_name(name: object) -> bool:
    """Return whether something is the name of a file or folder, without a path."""
    return (
        isinstance(name, str) and 0 < len(name) < 256 and name not in (".", "..") and not set(name) & {"/", "\\", "\0"}
    )


def check_links(folder: Path) -> None:
    """Check a folder before writing to it: no link in it, at any depth, leads out, and it has no pipes or devices."""
    folders = [folder]
    while folders:
        where = folders.pop()
        try:
            entries = list(os.scandir(where))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_symlink():
                check_within(folder, Path(entry.path))
            elif entry.is_dir(follow_symlinks=False):
                if where.name != "wandb":  # it links its logs to its cache, in folders that it writes once
                    folders.append(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                raise UserError(f"{entry.path} is not a regular file, and writing to it may block; remove it")


def normalise_unicode(form: Literal["NFC", "NFKC", "NFKD"], text: str) -> str:
    """Normalise a text in linear time.

    Sorting the combining marks of a letter takes quadratic time in their number; a U+034F separates them after each
    1,000, as one does after 30 in the Stream-Safe Text Format (UAX #15, section 13).
    """
    return unicodedata.normalize(form, text if text.isascii() else _LONG.sub(_separated, text))


def _separated(found: re.Match[str]) -> str:
    made, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MOST_MARKS:
            made.append("\u034f")
            marks = 1
        made.append(character)
    return "".join(made)


def escape_control(text: str) -> str:
    r"""Escape control characters as in ``\x1b``, so that a terminal prints them instead of obeying them."""
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def check_names(names: Iterable[str], where: str) -> None:
    """Check names that are printed, such as labels."""
    for name in names:
        if _CONTROL.search(name):
            raise ValueError(f"{where}: {escape_control(name)[:80]!r} has a control character")


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a file of an archive that :func:`check_archive` accepts."""
    check_archive(archive)
    info = archive.getinfo(name)
    with archive.open(info) as file:
        return file.read(info.file_size)


def check_archive(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that decompresses to far more than its size."""
    assert archive.fp is not None
    before = archive.fp.tell()
    size = archive.fp.seek(0, os.SEEK_END)
    archive.fp.seek(before)
    inside = sum(info.file_size for info in archive.infolist())
    compressed = sum(info.compress_size for info in archive.infolist())
    if inside > _SMALL + _RATIO * min(size, compressed):
        raise ValueError(f"it has {size:,} bytes and would decompress to {inside:,}")
