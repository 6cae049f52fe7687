"""One's own tables: CSV, TSV and JSON lines, read row by row and written whole or not at all."""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, final

from seqlab.errors import UserError
from seqlab.tables import JSON_LINES, MOST_COLUMNS, SEPARATORS, json_lines, separated

_PIECE = 2**20

Item = TypeVar("Item")


@final
@dataclass(frozen=True)
class Table:
    """A file of rows that was read once from end to end, so that no later row can be a surprise.

    Attributes:
        path: the file.
        columns: their names, in order; of JSON lines all that occur.
        count: rows, the header not counted.
    """

    path: Path
    columns: tuple[str, ...]
    count: int

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read anew: the number of the line where each row ends, and its values by column."""
        return _rows(self.path)

    def texts(self, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read anew: the text of each row, and the row.

        Raises:
            UserError: there is no such column, or it holds no text in some row.
        """
        self.require(column)
        for line, row in self.rows():
            if not isinstance(text := row.get(column), str):
                what = f"column {column!r} is {json.dumps(text)[:40]}" if column in row else f"no column {column!r}"
                raise UserError(f"{self.path}, line {line:,}: {what}, where a text must be")
            yield text, row

    def require(self, column: str) -> None:
        """Check that there is a column.

        Raises:
            UserError: there is not; the message lists those there are.
        """
        if column not in self.columns:
            raise UserError(f"{self.path} has no column {column!r}; there are {', '.join(self.columns)}")


def open_table(path: Path) -> Table:
    """Read a file once, check it and count its rows.

    Raises:
        UserError: it is of no known kind, not UTF-8, empty, or a row is not as it must be.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    kind_of(path)
    check_utf8(path)
    columns: dict[str, None] = {}
    count = 0
    for _, row in _rows(path):
        if count == 0 or row.keys() - columns.keys():
            columns |= dict.fromkeys(row)
            if len(columns) > MOST_COLUMNS:
                raise UserError(f"{path} has more than {MOST_COLUMNS:,} columns; a table has no more")
        count += 1
    if not count:
        raise UserError(f"{path} has no rows" if path.stat().st_size else f"{path} is empty")
    return Table(path, tuple(columns), count)


def kind_of(path: Path) -> str:
    """Give the ending that says what kind of table a file is.

    Raises:
        UserError: it says nothing.
    """
    suffix = path.suffix.lower()
    if suffix not in SEPARATORS and suffix not in JSON_LINES:
        known = ", ".join([*SEPARATORS, *JSON_LINES])
        raise UserError(f"{path}: its name does not say what kind of table it is; it must end in {known}")
    return suffix


def check_utf8(path: Path) -> None:
    """Read a file's bytes, a piece at a time.

    Raises:
        UserError: one of them is zero, or is not UTF-8; the message says which.
        OSError: the file cannot be read.
    """
    decoder, before = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while True:
            piece = file.read(_PIECE)
            if (zero := piece.find(b"\0")) >= 0:
                raise UserError(_zero(str(path), before + zero))
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                raise UserError(not_utf8(str(path), before - pending + error.start, error)) from error
            if not piece:
                return
            before += len(piece)


def read_text(path: Path) -> str:
    """Read a whole file as one text, without its byte-order mark; checks as :func:`check_utf8` does."""
    check_utf8(path)
    return path.read_bytes().decode("utf-8-sig")


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
        yield _lines(rest + whole, name, place)
        place += len(rest) + len(whole) + 1
        rest = piece_rest
    if rest:
        yield _lines(rest, name, place)


def _lines(data: bytes, name: str, place: int) -> list[str]:
    if (zero := data.find(b"\0")) >= 0:
        raise UserError(_zero(name, place + zero))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(not_utf8(name, place + error.start, error)) from error
    if not place:
        text = text.removeprefix("\ufeff")
    return [line.rstrip("\r") for line in text.split("\n")]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    suffix = kind_of(path)
    # Without translation only a newline (in CSV a carriage return, too) ends a line: U+2028 and its like do not.
    with path.open(encoding="utf-8-sig", newline="" if suffix in SEPARATORS else "\n") as file:
        try:
            yield from _separated(file, path, SEPARATORS[suffix]) if suffix in SEPARATORS else _json_lines(file, path)
        except ValueError as error:
            raise UserError(str(error)) from error


def _separated(file: Iterator[str], path: Path, separator: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = separated(file, str(path), separator)
    _, header = next(rows)
    if double := next((name for name, count in Counter(header).items() if count > 1), None):
        raise ValueError(f"{path} has several columns {double!r}; each must have a name of its own")
    for line, row in rows:
        yield line, dict(zip(header, row, strict=True))


def _json_lines(file: Iterator[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, row in json_lines(file, str(path)):
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{path}, line {line:,} has half a character, {error.object[error.start]!a}") from error
        yield line, row


def write_table(path: Path, columns: Sequence[str], rows: Iterator[Mapping[str, Any]]) -> None:
    """Write rows as they come to a temporary file, which takes the name at the end.

    Args:
        path: its ending says the kind.
        columns: their names, in order; a row that lacks one has an empty field there (JSON lines lack it, too).
        rows: values by column; what is no text is written as JSON.
    """
    from seqlab.training.runfolder import write_atomically

    write_atomically(path, _writer(kind_of(path), columns, rows))


def _writer(suffix: str, columns: Sequence[str], rows: Iterator[Mapping[str, Any]]) -> Callable[[BinaryIO], None]:
    def write(binary: BinaryIO) -> None:
        file = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=False)
        if suffix in JSON_LINES:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
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
