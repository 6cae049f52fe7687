"""Options that say how a table is written, and what its columns must hold."""

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


def add_table_options(parser: Any) -> None:
    """Add the options that say how a table is written."""
    parser.add_argument(
        "--quoting",
        choices=("auto", "none", "standard"),
        default="auto",
        help="quotes: none reads them as text, standard as CSV has them; auto is none in .tsv, standard in .csv",
    )
    parser.add_argument(
        "--header", choices=("auto", "none"), default="auto", help="none: line 1 is a row; columns are 1, 2, ..."
    )
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="such as cp1252 or utf-16 (utf-8)")


def table_layout(asked: argparse.Namespace) -> Layout:
    """Take the options back.

    Raises:
        UserError: Python knows no such encoding.
    """
    try:
        check_encoding(asked.encoding, "--encoding")
    except ValueError as error:
        raise UserError(str(error)) from error
    return Layout(asked.quoting, asked.header, asked.encoding, command_line=True)


def lacks(path: Path, column: str, columns: Sequence[str]) -> str:
    """Say that a table has no such column, and which it has."""
    return f"{path} {missing_column(column, columns)}"


def no_text(row: Mapping[str, Any], column: str) -> str | None:
    """Say what stands where a text must be; ``None`` where it is one."""
    if isinstance(row.get(column), str):
        return None
    what = f"column {column!r} is {json.dumps(row[column])[:40]}" if column in row else f"no column {column!r}"
    return f": {what}, where a text must be"


def column_check(path: Path, text: str | None, label: str | None) -> Check:
    """Ask for a text and a label in each row, in the columns that are named; a label may be missing."""

    def columns(names: Sequence[str]) -> None:
        for name in (text, label):
            if name is not None and name not in names:
                raise ValueError(lacks(path, name, names))

    def row(line: int, values: Mapping[str, Any], problems: Problems) -> None:
        _check_row(line, values, problems, path.suffix.lower(), text, label)

    return Check(columns, row, label)


def _check_row(
    line: int, row: Mapping[str, Any], problems: Problems, suffix: str, text: str | None, label: str | None
) -> None:
    """Take down what is wrong with a row: no text in its column, no label, or half a character in JSON."""
    if suffix in JSON_LINES:
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            problems.add(line, "half a character", f" has half a character, {error.object[error.start]!a}")
            return
    if text is not None and (wrong := no_text(row, text)) is not None:
        problems.add(line, f"no text in {text}", wrong)
    if label is not None and not is_empty(value := row.get(label)):
        try:
            label_of(value)
        except ValueError as error:
            problems.add(line, f"no label in {label}", f": {label} {error}")


def is_empty(value: Any) -> bool:
    """Say whether a field is null or blank."""
    return value is None or (isinstance(value, str) and not value.strip())


_PIECE = 2**20
_PLAIN = Layout(command_line=True)

Item = TypeVar("Item")


@final
@dataclass(frozen=True)
class Table:
    """A file of rows that was read once from end to end, so that no later row can be a surprise.

    Attributes:
        path: the file.
        found: its columns, how many rows it has, and how to read them.
        notes: what a reader should know.
    """

    path: Path
    found: Rows
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order; of JSON lines all that occur."""
        return self.found.columns

    @property
    def count(self) -> int:
        """Rows, the header not counted."""
        return self.found.count

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read anew: the number of the line where each row begins, and its values by column."""
        try:
            yield from self.found.read()
        except ValueError as error:
            raise UserError(f"{self.path}: it has changed since it was read first ({error})") from error

    def texts(self, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read anew: the text of each row, and the row.

        Raises:
            UserError: there is no such column, or it holds no text in some row.
        """
        self.require(column)
        for line, row in self.rows():
            if (wrong := no_text(row, column)) is not None:
                raise UserError(f"{self.path}, line {line:,}{wrong}")
            yield row[column], row

    def require(self, column: str) -> None:
        """Check that there is a column.

        Raises:
            UserError: there is not; the message lists those there are.
        """
        if column not in self.columns:
            raise UserError(lacks(self.path, column, self.columns))


def open_table(path: Path, layout: Layout = _PLAIN, text: str | None = None, label: str | None = None) -> Table:
    """Read a file once, check it and count its rows.

    Args:
        path: the file.
        layout: how it is written.
        text: a column that must hold a text in each row.
        label: a column that must hold a label in each row, or nothing.

    Raises:
        UserError: it is of no known kind, not of the encoding, empty, or rows are not as they must be.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    kind_of(path, layout)
    facts = check_utf8(path, layout)
    check = column_check(path, text, label)
    try:
        found = read_rows(lambda: _lines(path, layout, facts), str(path), kind_of(path, layout), layout, check)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not found.count:
        raise UserError(f"{path} has no rows" if path.stat().st_size else f"{path} is empty")
    table = Table(path, found, (*facts.notes, *found.notes))
    for name in (text, label):
        if name is not None:
            table.require(name)
    return table


def _lines(path: Path, layout: Layout, facts: Decoded) -> Iterator[str]:
    """Read the lines of a file, with their ends and without byte-order marks."""
    with path.open(encoding=layout.encoding, newline=facts.newline) as file:
        for number, line in enumerate(file):
            yield line[facts.marks :] if number == 0 else line


def kind_of(path: Path, layout: Layout = _PLAIN) -> str:
    """Give the ending that says what kind of table a file is.

    Raises:
        UserError: it says nothing.
    """
    suffix = path.suffix.lower()
    try:
        check_kind(suffix, layout)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return suffix


def check_utf8(path: Path, layout: Layout = _PLAIN) -> Decoded:
    """Decode a file a piece at a time, and say what was found.

    Raises:
        UserError: a byte is zero, or not of the encoding, UTF-8 unless told; the message says which.
        OSError: the file cannot be read.
    """
    decoder = Decoder(str(path), layout)
    with path.open("rb") as file:
        try:
            while piece := file.read(_PIECE):
                decoder.feed(piece, final=False)
            decoder.feed(b"", final=True)
        except ValueError as error:
            raise UserError(str(error)) from error
    return decoder.facts()


def read_text(path: Path, layout: Layout = _PLAIN) -> str:
    """Read a whole file as one text, without its byte-order mark; checks as :func:`check_utf8` does."""
    facts = check_utf8(path, layout)
    return path.read_bytes().decode(layout.encoding)[facts.marks :]


def not_utf8(name: str, place: int, error: UnicodeDecodeError) -> str:
    """Say where bytes are not UTF-8."""
    return f"{name}: byte {place:,} is not UTF-8 ({error.object[error.start]:#04x}); save it as UTF-8"


def _zero(name: str, place: int) -> str:
    return f"{name}: byte {place:,} is zero, as in UTF-16 or in what is no text; save it as UTF-8"


def lines_as_they_come(stream: BinaryIO, name: str) -> Iterator[list[str]]:
    """Read lines of a pipe: each time those that are there, so that none waits for the next one.

    Args:
        stream: with ``read1``, as ``sys.stdin.buffer`` has it.
        name: what an error calls it.

    Raises:
        UserError: a line is not UTF-8 or has a zero byte.
    """
    rest, place = b"", 0
    while piece := stream.read1(_PIECE):  # type: ignore[attr-defined]  # of every buffered reader
        whole, newline, piece_rest = piece.rpartition(b"\n")
        if not newline:
            rest += piece
            continue
        yield _decoded_lines(rest + whole, name, place)
        place += len(rest) + len(whole) + 1
        rest = piece_rest
    if rest:
        lines = _decoded_lines(rest, name, place)
        yield lines if place else lines[0].split("\r")  # without a newline, carriage returns end lines, as in tables


def _decoded_lines(data: bytes, name: str, place: int) -> list[str]:
    if (zero := data.find(b"\0")) >= 0:
        raise UserError(_zero(name, place + zero))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(not_utf8(name, place + error.start, error)) from error
    if not place:
        text = text.lstrip("\ufeff")
    return [line.rstrip("\r") for line in text.split("\n")]


def write_table(path: Path, columns: Sequence[str], rows: Iterator[Mapping[str, Any]], *, quotes: bool = True) -> None:
    """Write rows as they come to a temporary file, which takes the name at the end.

    Args:
        path: its ending says the kind.
        columns: their names, in order; a row that lacks one has an empty field there (JSON lines lack it, too).
        rows: values by column; what is no text is written as JSON.
        quotes: whether fields of a ``.csv`` or ``.tsv`` are put into quotes where that is needed; without, a field must
            have no separator and no line end in it.
    """
    from seqlab.io.atomic import write_atomically

    write_atomically(path, _writer(kind_of(path), columns, rows, quotes))


def _writer(
    suffix: str, columns: Sequence[str], rows: Iterator[Mapping[str, Any]], quotes: bool
) -> Callable[[BinaryIO], None]:
    def write(binary: BinaryIO) -> None:
        file = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=False)
        if suffix in JSON_LINES:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        elif not quotes:
            for fields in chain([columns], ([field_of(row.get(column)) for column in columns] for row in rows)):
                file.write(SEPARATORS[suffix].join(fields) + "\n")
        else:
            # The default line end, \r\n, makes the writer quote a field that holds either of the two.
            table = csv.writer(file, delimiter=SEPARATORS[suffix])
            table.writerow(columns)
            table.writerows([field_of(row.get(column)) for column in columns] for row in rows)
        file.flush()
        file.detach()

    return write


def field_of(value: Any) -> str:
    """Give a value as it stands in a field: texts as they are, nothing for null, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def chunks(items: Iterator[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Take items together: up to 4,096, or fewer where their sizes add up to 16 million.

    Args:
        items: any number of them.
        size_of: an item's size, such as the letters of a text.
    """
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
