"""Running text out of files, piece by piece."""

import codecs
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, final

from seqlab import Corpus

Errors = Literal["strict", "replace"]

_BLOCK = 2**20
"""Bytes that are read at once; a piece ends with a line, but is no longer than two blocks or so."""


@final
@dataclass(frozen=True)
class Part:
    """Some bytes of a file."""

    path: Path
    start: int
    end: int


def corpus(parts: Sequence[Part], where: str, errors: Errors) -> Corpus:
    """Make running text of parts of files, one after another.

    Args:
        parts: what is read.
        where: the option that named it, for messages.
        errors: what to do with bytes that are not UTF-8.
    """
    stamps = [[str(p.path.resolve()), p.start, p.end, p.path.stat().st_mtime_ns, p.path.stat().st_size] for p in parts]
    fingerprint = hashlib.sha256(json.dumps([stamps, errors]).encode()).hexdigest()
    return Corpus(lambda: pieces(parts, where, errors), sum(part.end - part.start for part in parts), fingerprint)


def pieces(parts: Sequence[Part], where: str, errors: Errors) -> Iterator[str]:
    """Read the parts, cut after lines where there are any.

    Raises:
        ValueError: a byte is not UTF-8, or is NUL; the message names file and place.
    """
    for part in parts:
        decoder = codecs.getincrementaldecoder("utf-8")(errors)
        rest, position = "", part.start
        with part.path.open("rb") as file:
            file.seek(part.start)
            while position < part.end:
                block = file.read(min(_BLOCK, part.end - position))
                if not block:
                    raise ValueError(f"{where}: {part.path} became shorter while it was read")
                rest += _decoded(decoder, block, position, part, where)
                position += len(block)
                if part.start == 0 and position == len(block):
                    rest = rest.lstrip("\ufeff")  # byte-order marks
                cut = rest.rfind("\n") + 1 or (len(rest) if len(rest) > _BLOCK else 0)
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
        if rest:
            yield rest


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, position: int, part: Part, where: str) -> str:
    if (zero := block.find(0)) >= 0:
        raise ValueError(f"{where}: {part.path} holds a NUL byte (byte {position + zero}), so it is no text in UTF-8")
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final=position + len(block) == part.end)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: {part.path}, byte {position - pending + error.start} is not UTF-8 "
            f"(0x{error.object[error.start]:02x}); save the file as UTF-8, or set task.encoding_errors=replace"
        ) from error


def whole(paths: Sequence[Path]) -> list[Part]:
    """Take all of some files."""
    return [Part(path, 0, path.stat().st_size) for path in paths]


def divided(paths: Sequence[Path], shares: Sequence[float], most: int) -> list[list[Part]]:
    """Cut files that are read one after another into a first part and held-out ones behind it, after lines.

    Args:
        paths: the files.
        shares: of each held-out part, in their order.
        most: bytes that a held-out part has at most.

    Returns:
        The parts of the first split and of each held-out one.
    """
    sizes = [path.stat().st_size for path in paths]
    total = sum(sizes)
    held_out = [min(int(share * total), most) for share in shares]
    cuts = [total - sum(held_out[index:]) for index in range(len(shares))]
    edges = [0, *(_after_line(paths, sizes, cut) for cut in cuts), total]
    found: list[list[Part]] = []
    for begin, end in pairwise(edges):
        parts, offset = [], 0
        for path, size in zip(paths, sizes, strict=True):
            low, high = max(begin - offset, 0), min(end - offset, size)
            if low < high:
                parts.append(Part(path, low, high))
            offset += size
        found.append(parts)
    return found


def _after_line(paths: Sequence[Path], sizes: Sequence[int], cut: int) -> int:
    """Move a place to behind the next line end, or in a line without end to the next character."""
    offset = 0
    for path, size in zip(paths, sizes, strict=True):
        if cut < offset + size:
            with path.open("rb") as file:
                file.seek(cut - offset)
                ahead = file.read(_BLOCK)
            line = ahead.find(b"\n") + 1
            if not line:
                line = next((index for index, byte in enumerate(ahead[:4]) if byte & 0xC0 != 0x80), 0)
            return min(cut + line, offset + size)
        offset += size
    return cut
