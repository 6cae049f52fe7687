"""Decoding of files: encoding, byte-order marks, zero bytes and line ends."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

_CONTEXT = 12
"""Bytes before an undecodable one that a message shows in another encoding."""
_MARK = "\ufeff"
_LINES, _OLD_LINES = re.compile(r"[^\n]*\n|[^\n]+"), re.compile(r"[^\r]*\r|[^\r]+")
_END = re.compile(r"\n|\r+[^\r]?")
_NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook (save it as .csv, or name it .xlsx) or a zip archive (unpack it)",
    b"\x1f\x8b": "compressed by gzip (unpack it)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (save it as .csv or .xlsx)",
}
_WIDE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@final
@dataclass(frozen=True)
class Layout:
    """Format of a file of rows, as far as the user sets it.

    Attributes:
        quoting: ``none`` treats quotes as text, so that each line is a row; ``standard`` is RFC 4180, where a field in
            quotes may have separators and line ends; ``auto`` is ``none`` for tabs and ``standard`` for other
            separators, unless the rows contradict.
        header: ``auto`` takes the first row as the header; ``none`` numbers the columns from 1.
        encoding: of the file.
        errors: how to handle undecodable bytes: ``strict`` or ``replace``.
        command_line: whether messages name options of a command (``--quoting``) or of the config (``task.quoting``).
    """

    quoting: Literal["auto", "none", "standard"] = "auto"
    header: Literal["auto", "none"] = "auto"
    encoding: str = "utf-8"
    errors: Literal["strict", "replace"] = "strict"
    command_line: bool = False

    def option(self, name: str, value: str) -> str:
        """Return an option as the user types it."""
        return f"--{name.replace('_', '-')} {value}" if self.command_line else f"task.{name}={value}"

    def advice(self, name: str, value: str) -> str:
        """Return how to set an option."""
        return f"{'add' if self.command_line else 'set'} {self.option(name, value)}"

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding is UTF-8."""
        return codecs.lookup(self.encoding).name == "utf-8"

    @property
    def encoding_name(self) -> str:
        """The encoding's name in messages."""
        return "UTF-8" if self.is_utf8 else self.encoding


@final
@dataclass(frozen=True)
class Decoded:
    r"""Facts about a decoded file.

    Attributes:
        newline: the line end: ``"\n"``, with or without a carriage return before it, or ``"\r"`` where the first
            line ends so and newlines are fewer, as in spreadsheets of old Macs, which have newlines within quotes.
        marks: byte-order marks at the beginning.
        replaced: number of undecodable characters, shown as U+FFFD.
        notes: for the user.
    """

    newline: Literal["\n", "\r"]
    marks: int
    replaced: int
    notes: list[str]


def check_encoding(name: str, option: str = "encoding") -> None:
    """Check that Python knows an encoding."""
    try:
        known = codecs.lookup(name)._is_text_encoding  # what open() asks, too
    except (LookupError, ValueError):
        known = False
    if not known:
        raise ValueError(f"{option} must be a text encoding such as utf-8, cp1252 or utf-16, got {name!r}")


def decode(data: bytes, where: str, layout: Layout) -> tuple[str, Decoded]:
    """Decode a whole file, without byte-order marks."""
    decoder = Decoder(where, layout)
    text = decoder.feed(data, final=True)
    return text[decoder.marks :], decoder.facts()


def split_lines(text: str, newline: Literal["\n", "\r"]) -> Iterator[str]:
    """Split a text into lines with their ends; ``io.StringIO`` would turn newlines into carriage returns."""
    return (found[0] for found in (_LINES if newline == "\n" else _OLD_LINES).finditer(text))


@final
class Decoder:
    """Incremental decoder that counts line ends, byte-order marks and replaced characters."""

    def __init__(self, where: str, layout: Layout) -> None:
        self.where, self.layout = where, layout
        self.marks = 0
        self._decoder = codecs.getincrementaldecoder(layout.encoding)(layout.errors)
        self._ascii_like = "\0".encode(layout.encoding).removeprefix(codecs.BOM_UTF8) == b"\0"
        self._there = "\ufffd".encode(layout.encoding, "ignore").removeprefix(codecs.BOM_UTF8)
        self._place, self._start, self._tail = 0, b"", b""
        self._leading, self._first, self._newlines, self._carriages = True, "", 0, 0
        self._replaced = 0

    def feed(self, piece: bytes, *, final: bool) -> str:
        """Decode the next piece, byte-order marks included."""
        self._start = self._start or piece[:4]
        if self._start[:3] == codecs.BOM_UTF8 and not codecs.lookup(self.layout.encoding).name.startswith("utf-8"):
            text = f"begins with the byte-order mark of UTF-8, which {self.layout.encoding} would read as letters"
            raise ValueError(f"{self.where} {text}; {self.layout.advice('encoding', 'utf-8')}")
        for start, kind in _NO_TEXT.items():
            if self._start.startswith(start):
                raise ValueError(f"{self.where} is {kind}, not a text file")
        if self._ascii_like and (zero := piece.find(b"\0")) >= 0:
            text = _zero(self._place + zero, self._start[:2], self.layout)
            raise ValueError(f"{self._line(piece[:zero])}: {text}")
        pending = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(piece, final=final)
        except UnicodeDecodeError as error:
            place = self._place - pending + error.start
            text = _undecodable(place, error, self.layout, self._ascii_like)
            raise ValueError(f"{self._line(error.object[: error.start])}: {text}") from error
        except UnicodeError as error:  # of UTF-16 without a byte-order mark
            raise ValueError(f"{self.where} cannot be read as {self.layout.encoding}: {error}") from error
        if not self._ascii_like and "\0" in text:
            raise ValueError(f"{self.where}: a character is zero as {self.layout.encoding}; {_other(self.layout)}")
        self._place += len(piece)
        self._count(text, piece)
        return text

    def _line(self, before: bytes) -> str:
        """Name the line after the bytes of a piece; of wide characters the file alone."""
        if not self._ascii_like:
            return self.where
        ends = self._newlines + before.count(b"\n") or self._carriages + before.count(b"\r")
        return f"{self.where}, line {1 + ends:,}"

    def _count(self, text: str, piece: bytes) -> None:
        self._newlines, self._carriages = self._newlines + text.count("\n"), self._carriages + text.count("\r")
        if not self._first.strip("\r") and (end := _END.search(self._first + text)):
            self._first = end[0]  # with the character behind it, which may be of the next piece
        if self._leading and text:
            rest = text.lstrip(_MARK)
            self.marks, self._leading = self.marks + len(text) - len(rest), not rest
        if self.layout.errors == "replace":
            joined = self._tail + piece
            self._replaced += text.count("\ufffd") - (joined.count(self._there) if self._there else 0)
            self._tail = joined[len(joined) - max(0, len(self._there) - 1) :] if self._there else b""

    def facts(self) -> Decoded:
        """Return the facts about all pieces."""
        notes = []
        if self.marks > 1:
            notes.append(f"{self.marks} byte-order marks at the beginning, left out")
        if self._replaced > 0:
            notes.append(replaced_note(self._replaced, self.layout))
        alone = self._first[:1] == "\r" and self._first[-1] != "\n" and self._carriages > self._newlines
        return Decoded("\r" if alone else "\n", self.marks, max(0, self._replaced), notes)


def replaced_note(count: int, layout: Layout) -> str:
    """Return the note that counts the characters that were replaced."""
    return f"characters that are not {layout.encoding_name}, shown as \ufffd: {count:,}"


def _other(layout: Layout) -> str:
    return f"{layout.advice('encoding', 'NAME')} to read another encoding"


def _zero(place: int, start: bytes, layout: Layout) -> str:
    if (wide := _WIDE.get(start)) is not None:
        return (
            f"byte {place:,} is zero, as in UTF-16, which its first two bytes mark; save it as UTF-8,"
            f" or {layout.advice('encoding', wide)}"
        )
    return f"byte {place:,} is zero, as in UTF-16 or a file that is no text; save it as UTF-8"


def _undecodable(place: int, error: UnicodeDecodeError, layout: Layout, ascii_like: bool) -> str:
    data = error.object
    text = f"byte {place:,} is not {layout.encoding_name} ({data[error.start]:#04x})"
    if place == 0 and (wide := _WIDE.get(data[:2])) is not None:
        return f"{text}, but marks UTF-16; save it as UTF-8, or {layout.advice('encoding', wide)}"
    ways = [layout.advice("encoding_errors", "replace")] if ascii_like else []
    if layout.is_utf8:
        ways.insert(0, _suggestion(data, error.start, layout))
    return "; ".join([f"{text}; save it as UTF-8", *(f"or {way}" for way in ways)])


_SAMPLE = 2**15
"""Bytes before and after an undecodable one from which the encoding is guessed."""
_EVIDENCE = 24
"""Fewest bytes beyond ASCII from which an encoding other than that of Western Windows is guessed."""
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


def _suggestion(data: bytes, place: int, layout: Layout) -> str:
    """Return how to set the encoding that the data seem to have, and what it reads at an undecodable byte."""
    begin = max(data.rfind(b"\n", 0, place) + 1, place - _SAMPLE)
    for encoding in (*_guess(data, place), "cp1252"):
        try:
            before, after = (part.decode(encoding, "ignore") for part in (data[begin:place], data[place : place + 16]))
            data[max(begin, place - 1) : place + 1].decode(encoding, "strict" if encoding == "cp1252" else "ignore")
        except UnicodeDecodeError:
            continue
        shown = before.split(" ")[-1][-_CONTEXT:] + after.split()[0] if after.strip() else before[-_CONTEXT:]
        return f"{layout.advice('encoding', encoding)} (which reads {shown[: 2 * _CONTEXT]!r} there)"
    return layout.advice("encoding", "latin-1")


def _guess(data: bytes, place: int) -> list[str]:
    """Return the encoding that charset-normalizer finds in the lines around a byte, if they are evidence enough."""
    from charset_normalizer import from_bytes

    begin = data.find(b"\n", max(0, place - _SAMPLE), place) + 1 if place > _SAMPLE else 0
    sample = data[begin : place + _SAMPLE]
    lines = (sample[: sample.rfind(b"\n") + 1] or sample).split(b"\n")
    sample = b"\n".join(line for line in lines if _BEYOND_ASCII.search(line))
    if len(_BEYOND_ASCII.findall(sample)) < _EVIDENCE:
        return []
    matches = from_bytes(sample)
    best = matches.best()
    if best is None or any("cp1252" in match.could_be_from_charset for match in matches):
        return []
    return [best.encoding]
