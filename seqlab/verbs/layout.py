"""Options that say how a table is written, and what its columns must hold."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.tables import JSON_LINES, Check, Layout, Problems, check_encoding, label_of, no_column


def add_layout(parser: Any) -> None:
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


def layout_of(asked: argparse.Namespace) -> Layout:
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
    return f"{path} {no_column(column, columns)}"


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
