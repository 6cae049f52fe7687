"""Tables that commands read and write: options of their format, checks of their columns, lines of a pipe."""

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, final

from seqlab.errors import UserError
from seqlab.io.atomic import write_atomically
from seqlab.io.csv_files import csv_field
from seqlab.io.tables import (
    SEPARATORS,
    Check,
    Columns,
    Layout,
    Problems,
    Rows,
    check_encoding,
    check_kind,
    column_names,
    missing_column,
    read_table,
)

WRITTEN_JSON = (".jsonl", ".ndjson")
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
    parser.add_argument(
        "--encoding-errors",
        choices=("strict", "replace"),
        default="strict",
        help="replace reads bytes outside the encoding as U+FFFD, and counts them",
    )


def table_layout(args: argparse.Namespace) -> Layout:
    """Return the format that the options describe."""
    try:
        check_encoding(args.encoding, "--encoding")
    except ValueError as error:
        raise UserError(str(error)) from error
    return Layout(args.quoting, args.header, args.encoding, args.encoding_errors, command_line=True)


def text_columns(given: Sequence[str] | None, run_dir: Path, path: Path, layout: Layout) -> tuple[str, ...]:
    """Return the columns of the text: those given, or those that the run was trained on if the table has them."""
    if given:
        return tuple(given)
    trained = trained_columns(run_dir, "text_column")
    if trained == ("text",) or not path.is_file():
        return trained
    there = open_table(path, layout).columns
    return ("text",) if "text" in there and not set(trained) <= set(there) else trained


def trained_columns(run_dir: Path, option: str) -> tuple[str, ...]:
    """Return the columns that a run read, by an option of its task such as ``text_column``."""
    from seqlab.runs.card import read_card  # which imports torch

    value = ((read_card(run_dir)["task"] or {}).get("parameters") or {}).get(option)
    names: list[Any] = value if isinstance(value, list) else [value]
    is_plain = bool(names) and all(isinstance(each, str | int) for each in names)
    return column_names(names) if is_plain else (option.removesuffix("_column"),)


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

    def texts(self, column: str | Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read the text of each row, and the row; raise :class:`UserError` if there is none."""
        names = column_names(column)
        for name in names:
            self.require(name)
        columns = _columns(self.path, names, None)
        for line, row in self.rows():
            try:
                yield columns.text_of(row), row
            except ValueError as error:
                raise UserError(f"{self.path}, line {line:,}: {', '.join(names)} {error}") from error

    def require(self, column: str) -> None:
        """Raise :class:`UserError` unless there is such a column."""
        if column not in self.columns:
            raise UserError(f"{self.path} {missing_column(column, self.columns)}")


def open_table(
    path: Path,
    layout: Layout = _DEFAULT,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    option: str = "--column",
) -> Table:
    """Read a file once, check it and count its rows.

    Args:
        path: of the file.
        layout: its format.
        text: the columns of the text; those of JSON lines must occur in each row.
        label: the column of the label; it may be empty.
        option: how the user names the columns of the text.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    kind_of(path, layout)
    columns = _columns(path, () if text is None else column_names(text), label, layout, option)
    try:
        found = read_table(path, str(path), layout, _whole_rows(columns))
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    table = Table(found.columns, found.count, found.notes, found.plain, found.read, path)
    for name in (*columns.text, *filter(None, (label,))):
        table.require(name)
    return table


def _columns(
    path: Path, text: tuple[str, ...], label: str | None, layout: Layout = _DEFAULT, option: str = "--column"
) -> Columns:
    """Return the columns to read; null is an empty text, and a label may be missing."""
    options = (option, "--label-column")
    return Columns(
        str(path), text, label, on_missing="empty", needs_label=False, layout=layout, options=options
    )  # fmt: skip


def _whole_rows(columns: Columns) -> Check:
    """Return the requirements on the columns that are read, and of whole characters in all others."""
    check = columns.check()

    def row(line: int, values: Mapping[str, Any], problems: Problems) -> None:
        try:
            json.dumps(values, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            character = error.object[error.start]
            problems.add(line, "half a character", f" has half a character, {character!a}")
            return
        check.row(line, values, problems)

    return replace(check, row=row)


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


def check_output(path: Path) -> str:
    """Return the extension of a file to write; raise :class:`UserError` unless such tables can be written."""
    suffix = path.suffix.lower()
    if suffix not in (*SEPARATORS, *WRITTEN_JSON):
        kinds = ", ".join((*SEPARATORS, *WRITTEN_JSON))
        raise UserError(f"{path}: answers are written as one of {kinds}, which the name must end in")
    return suffix


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
    write_atomically(path, _writer(check_output(path), columns, rows, quotes))


def _writer(
    suffix: str, columns: Sequence[str], rows: Iterator[Mapping[str, Any]], quotes: bool
) -> Callable[[BinaryIO], None]:
    def write(binary: BinaryIO) -> None:
        file = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=False)
        if suffix in WRITTEN_JSON:
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
