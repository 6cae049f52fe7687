"""Safe reading of untrusted files: regular, bounded, dense; JSON of bounded depth; paths that stay in a folder."""

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
from typing import Any, BinaryIO, Literal

from seqlab.errors import UserError

_LARGE = 64 * 2**20


def check_not_sparse(file: BinaryIO) -> int:
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


def read_not_sparse(path: Path) -> bytes:
    """Read a regular file of any size that is there.

    Raises:
        UserError: it is not a regular file.
        ValueError: it is a hole.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        check_not_sparse(file)
        return file.read()


LARGEST_TEXT = 64 * 2**20
"""Bytes of a JSON or CSV file: it takes about ten times as much memory when it is read."""
DEEPEST = 64
"""Lists and objects within one another in a JSON file."""
_MOST_CONTAINERS = 2**20
_MOST_VALUES = 2**23
_MOST_KEYS = 2**21
_RATIO = 10
_SMALL = 32 * 2**20

_MOST_MARKS = 1_000
_LONG = re.compile(rf"[^\w\s\x00-\x7f]{{{_MOST_MARKS + 1},}}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a terminal obeys: control characters but tab and line ends; and halves of characters, which none can show."""
_SHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""The same, and what turns the direction of what stands behind it."""


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, if it is one: no pipe that never ends, no device, no folder.

    Raises:
        UserError: it is none.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        UserError: it is larger, or no regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UserError(f"{path} has {size:,} bytes; such a file has {most:,} at most")
        data = file.read(most + 1)  # the size may be a lie, as that of /proc is
    if len(data) > most:
        raise UserError(f"{path} has more than {most:,} bytes")
    return data


def parse_json(data: bytes, *, plain: bool = False) -> Any:
    """Parse JSON that is no trap: each key once, finite numbers, bounded depth, and a bounded number of values.

    Args:
        data: UTF-8.
        plain: whether texts may have no control characters, since they are shown in a terminal.

    Raises:
        ValueError: it is none.
    """
    opened = data.count(b"[") + data.count(b"{")
    if opened > _MOST_CONTAINERS or data.count(b",") > _MOST_VALUES or data.count(b":") > _MOST_KEYS:
        raise ValueError("it has too many values")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_number,
            parse_int=_whole,
        )  # fmt: skip
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from None
    _check(value, plain=plain)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        double = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {escape_control(double)[:80]!r} is there twice")
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) < float("inf"):
        raise ValueError(f"{text[:40]} is beyond what a number can be")
    return value


def _whole(text: str) -> int:
    value = int(text)  # which refuses thousands of digits by itself
    if not abs(value) < 2**64:
        raise ValueError(f"{text[:40]} is beyond what a number can be")
    return value


def check_depth(value: Any) -> None:
    """Refuse lists and objects that are nested too deep.

    Raises:
        ValueError: they are.
    """
    _check(value, plain=False)


def check_plain(value: Any) -> None:
    """Refuse texts that would command a terminal.

    Raises:
        ValueError: a text or a key has a control character, or it is nested too deep.
    """
    _check(value, plain=True)


def _check(value: Any, *, plain: bool) -> None:
    """Walk through all values without recursion."""
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
    """Give the path back, if no link and no ``..`` leads it out of the folder.

    Raises:
        UserError: one does.
    """
    if path.parent == folder and path.name != ".." and not path.is_symlink():
        return path
    try:
        root, real = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} is a link that leads nowhere") from error
    if not real.is_relative_to(root):
        raise UserError(f"{path} leads out of {folder}, to {real}; put what it means there itself")
    return path


def is_plain_name(name: object) -> bool:
    """Whether something is the plain name of a file or folder, and no path."""
    return (
        isinstance(name, str) and 0 < len(name) < 256 and name not in (".", "..") and not set(name) & {"/", "\\", "\0"}
    )


def check_links(folder: Path) -> None:
    """Check a folder that is written into: no link in it, at any depth, leads out of it, and nothing takes without end.

    Args:
        folder: which need not be there.

    Raises:
        UserError: one does, or something in it is neither a file nor a folder.
    """
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
                raise UserError(f"{entry.path} is not a regular file; who writes to it may wait for ever: take it away")


def normalise_unicode(form: Literal["NFC", "NFKC", "NFKD"], text: str) -> str:
    """Bring a text to one of Unicode's normal forms, in a time that grows with it.

    Sorting the marks of a letter takes the square of their number; a U+034F parts them after each 1,000, as one does
    after 30 in the Stream-Safe Text Format (UAX #15, section 13).
    """
    return unicodedata.normalize(form, text if text.isascii() else _LONG.sub(_parted, text))


def _parted(found: re.Match[str]) -> str:
    made, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MOST_MARKS:
            made.append("\u034f")
            marks = 1
        made.append(character)
    return "".join(made)


def escape_control(text: str) -> str:
    r"""Write control characters as ``\x1b``, so that a terminal shows them instead of obeying them."""
    return _SHOWN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def check_names(names: Iterable[str], where: str) -> None:
    """Check names that are shown in a terminal, such as labels.

    Raises:
        ValueError: one has a control character.
    """
    for name in names:
        if _CONTROL.search(name):
            raise ValueError(
                f"{where}: {escape_control(name)[:80]!r} has a control character, which a terminal would obey"
            )


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a file in an archive, if what comes out is not far more than what went in.

    Raises:
        ValueError: it is.
        KeyError: there is none.
    """
    check_archive(archive)
    info = archive.getinfo(name)
    with archive.open(info) as file:
        return file.read(info.file_size)


def check_archive(archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose files are far larger than itself.

    Raises:
        ValueError: they are.
    """
    inside = sum(info.file_size for info in archive.infolist())
    outside = sum(info.compress_size for info in archive.infolist())
    size = _size(archive)
    if inside > _SMALL + _RATIO * min(size, outside):
        raise ValueError(f"it has {size:,} bytes and says that {inside:,} come out of it")


def _size(archive: zipfile.ZipFile) -> int:
    file = archive.fp
    assert file is not None
    before = file.tell()
    try:
        return file.seek(0, os.SEEK_END)
    finally:
        file.seek(before)
