"""Tables that commands read and write: options of their format, checks of their columns, lines of a pipe."""

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, final

from seqlab.errors import UserError
from seqlab.io.atomic import write_atomically
from seqlab.io.csv_files import csv_field
from seqlab.io.tables import (
    JSON_LINES,
    SEPARATORS,
    Check,
    Decoded,
    Decoder,
    Layout,
    Problems,
    Rows,
    check_encoding,
    check_kind,
    label_of,
    missing_column,
    read_rows,
)

_PIECE = 2**20
_DEFAULT = Layout(command_line=True)

Item = TypeVar("Item")


def add_table_options(parser: Any) -> None:
    """Add the options that describe the format of a table."""
    parser.add_argument(
        "--quoting",
        choices=("auto", "none", "standard"),
        default="auto",
        help="none reads quotes as text, standard as in CSV; auto is none for .tsv and standard for .csv",
    )
    parser.add_argument(
        "--header", choices=("auto", "none"), default="auto", help="none: line 1 is a row; columns are 1, 2, ..."
    )
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="such as cp1252 or utf-16 (utf-8)")


def table_layout(args: argparse.Namespace) -> Layout:
    """Return the format that the options describe."""
    try:
        check_encoding(args.encoding, "--encoding")
    except ValueError as error:
        raise UserError(str(error)) from error
    return Layout(args.quoting, args.header, args.encoding, command_line=True)


@final
@dataclass(frozen=True)
class Table(Rows):
    """The rows of a file, with what commands ask of them; reading them again raises no errors."""

    path: Path

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read the rows: the number of the line where each starts, and its values by column."""
        try:
            yield from self.read()
        except ValueError as error:
            raise UserError(f"{self.path}: it has changed since it was read first ({error})") from error

    def texts(self, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read the text of each row, and the row; raise :class:`UserError` if there is none."""
        self.require(column)
        for line, row in self.rows():
            if (fault := _text_fault(row, column)) is not None:
                raise UserError(f"{self.path}, line {line:,}{fault}")
            yield row[column], row

    def require(self, column: str) -> None:
        """Raise :class:`UserError` unless there is such a column."""
        if column not in self.columns:
            raise UserError(f"{self.path} {missing_column(column, self.columns)}")


def open_table(path: Path, layout: Layout = _DEFAULT, text: str | None = None, label: str | None = None) -> Table:
    """Read a file once, check it and count its rows."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    kind = kind_of(path, layout)
    facts = _decode(path, layout)
    check = _column_check(path, text, label)

    def lines() -> Iterator[str]:
        """Read the lines with their ends and without byte-order marks."""
        with path.open(encoding=layout.encoding, newline=facts.newline) as file:
            for number, line in enumerate(file):
                yield line[facts.marks :] if number == 0 else line

    try:
        found = read_rows(lines, str(path), kind, layout, check)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not found.count:
        raise UserError(f"{path} has no rows" if path.stat().st_size else f"{path} is empty")
    table = Table(found.columns, found.count, (*facts.notes, *found.notes), found.plain, found.read, path)
    for name in filter(None, (text, label)):
        table.require(name)
    return table


def _column_check(path: Path, text: str | None, label: str | None) -> Check:
    """Require a text and a label in each row of the named columns; a label may be missing."""

    def columns(names: Sequence[str]) -> None:
        for name in (text, label):
            if name is not None and name not in names:
                raise ValueError(f"{path} {missing_column(name, names)}")

    def row(line: int, values: Mapping[str, Any], problems: Problems) -> None:
        if path.suffix.lower() in JSON_LINES:
            try:
                json.dumps(values, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError as error:
                character = error.object[error.start]
                problems.add(line, "half a character", f" has half a character, {character!a}")
                return
        if text is not None and (fault := _text_fault(values, text)) is not None:
            problems.add(line, f"no text in {text}", fault)
        if label is not None and not is_empty(value := values.get(label)):
            try:
                label_of(value)
            except ValueError as error:
                problems.add(line, f"no label in {label}", f": {label} {error}")

    return Check(columns, row, label)


def _text_fault(row: Mapping[str, Any], column: str) -> str | None:
    """Describe what a row has in place of a text; ``None`` if it has one."""
    if isinstance(row.get(column), str):
        return None
    value = f"column {column!r} is {json.dumps(row[column])[:40]}" if column in row else f"no column {column!r}"
    return f": {value}, where a text must be"


def is_empty(value: Any) -> bool:
    """Return whether a field is null or blank."""
    return value is None or (isinstance(value, str) and not value.strip())


def kind_of(path: Path, layout: Layout = _DEFAULT) -> str:
    """Return the extension of a file name; raise :class:`UserError` unless it is that of a table."""
    suffix = path.suffix.lower()
    try:
        check_kind(suffix, layout)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return suffix


def _decode(path: Path, layout: Layout) -> Decoded:
    """Decode a file piece by piece; return line ends, byte-order marks and notes."""
    decoder = Decoder(str(path), layout)
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                decoder.feed(piece, final=False)
            decoder.feed(b"", final=True)
    except ValueError as error:
        raise UserError(str(error)) from error
    return decoder.facts()


def read_text(path: Path, layout: Layout = _DEFAULT) -> str:
    """Read a file as one text, without its byte-order mark."""
    facts = _decode(path, layout)
    return path.read_bytes().decode(layout.encoding)[facts.marks :]


def read_lines(stream: BinaryIO, name: str) -> Iterator[list[str]]:
    """Read the lines of a pipe, such as ``sys.stdin.buffer``: each time those that have arrived."""
    rest, place = b"", 0
    while piece := stream.read1(_PIECE):  # type: ignore[attr-defined]  # of every buffered reader
        whole, newline, piece_rest = piece.rpartition(b"\n")
        if not newline:
            rest += piece
            continue
        yield _split(rest + whole, name, place)
        place += len(rest) + len(whole) + 1
        rest = piece_rest
    if rest:
        lines = _split(rest, name, place)
        yield lines if place else lines[0].split("\r")  # without a newline, carriage returns end lines, as in tables


def _split(data: bytes, name: str, place: int) -> list[str]:
    if (zero := data.find(b"\0")) >= 0:
        raise UserError(f"{name}: byte {place + zero:,} is zero, as in UTF-16 or binary data; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"{name}: byte {place + error.start:,}"
        raise UserError(f"{where} is not UTF-8 ({data[error.start]:#04x}); save it as UTF-8") from error
    if not place:
        text = text.lstrip("\ufeff")
    return [line.rstrip("\r") for line in text.split("\n")]


def write_table(path: Path, columns: Sequence[str], rows: Iterator[Mapping[str, Any]], *, quotes: bool = True) -> None:
    """Write rows as they come to a temporary file, which is renamed at the end.

    A row that lacks a column has an empty field there (JSON lines lack it, too); values other than texts are written as
    JSON. Without ``quotes`` a field must have no separator and no line end in it.
    """
    write_atomically(path, _writer(kind_of(path), columns, rows, quotes))


def _writer(
    suffix: str, columns: Sequence[str], rows: Iterator[Mapping[str, Any]], quotes: bool
) -> Callable[[BinaryIO], None]:
    def write(binary: BinaryIO) -> None:
        file = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=False)
        if suffix in JSON_LINES:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            records = chain([columns], ([csv_field(row.get(column)) for column in columns] for row in rows))
            if quotes:
                # The default line end, \r\n, makes the writer quote a field that holds either of the two.
                csv.writer(file, delimiter=SEPARATORS[suffix]).writerows(records)
            else:
                file.writelines(SEPARATORS[suffix].join(fields) + "\n" for fields in records)
        file.flush()
        file.detach()

    return write


def chunks(items: Iterator[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Group items: up to 4,096, or fewer where their sizes add up to 16 million."""
    taken: list[Item] = []
    size = 0
    for item in items:
        taken.append(item)
        size += size_of(item)
        if len(taken) == 4096 or size >= 2**24:
            yield taken
            taken, size = [], 0
    if taken:
        yield taken
