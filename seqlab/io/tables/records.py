"""Readers of files whose rows have named values: JSON lines and arrays, Parquet; and of Excel sheets."""

import base64
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from seqlab.io.safe_io import check_archive, check_json, unique_keys
from seqlab.io.tables.rows import Check, Lines, Problems, Record, Row, Rows, breaks

MOST_COLUMNS = 10_000
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet",)
SHEETS = (".xlsx", ".xlsm")
STRUCTURED = (*PARQUET, *SHEETS)
_EXTRA = 'pip install "seqlab[tables]"'
_LISTED = "write one object a line, without brackets around them and commas between them"
_BATCH = 4096


def json_rows(lines: Lines, where: str, check: Check) -> Rows:
    """Read and check a file of JSON objects, one a line or one array of them."""
    first = next((line for line in lines() if line.strip()), "")
    if first.strip().startswith("[") and (found := _array("".join(lines()))) is not None:
        return _checked(lambda problems: _array_rows(found, problems), Problems(where, "row"), check)
    return _checked(lambda problems: _objects(lines(), problems), Problems(where), check)


def _checked(
    read: Callable[[Problems], Iterator[Row]],
    problems: Problems,
    check: Check,
    columns: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Rows:
    """Check all rows; the columns are those given, or all that occur."""
    known = dict.fromkeys(columns)
    count, plain = 0, not any(map(breaks, columns))
    for line, row in read(problems):
        if not columns and (count == 0 or row.keys() - known.keys()):
            known |= dict.fromkeys(row)
            check_width(len(known), problems.where)
            plain = plain and not any(map(breaks, row))
        count += 1
        plain = plain and not any(isinstance(value, str) and breaks(value) for value in row.values())
        check.row(line, row, problems)
    problems.check()
    again = Problems(problems.where, problems.unit)
    return Rows(tuple(known), count, tuple(notes), plain, lambda: read(again))


def check_width(columns: int, where: str) -> None:
    """Check the number of columns."""
    if columns > MOST_COLUMNS:
        raise ValueError(f"{where} has {columns:,} columns; a table has {MOST_COLUMNS:,} at most")


def _objects(lines: Iterable[str], problems: Problems) -> Iterator[Row]:
    """Parse one JSON object a line; empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
            check_json(row)
        except (ValueError, RecursionError) as error:
            listed = line.strip().startswith("[") or line.rstrip().endswith(",")
            problems.add(number, "no JSON", f" is not valid JSON: {error}", _LISTED if listed else "")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            text = ' is not an object with columns, such as {"text": ...}'
            problems.add(number, "no object", text, _LISTED if isinstance(row, list) else "")


def _array(text: str) -> list[Any] | None:
    """Return the items of a text that is one JSON array of objects, ``None`` of any other."""
    try:
        value = json.loads(text, object_pairs_hook=unique_keys)
        check_json(value)
    except (ValueError, RecursionError):
        return None  # read as lines, whose errors are located
    return value if isinstance(value, list) and any(isinstance(row, dict) for row in value) else None


def _array_rows(items: Sequence[Any], problems: Problems) -> Iterator[Row]:
    for number, row in enumerate(items, start=1):
        if isinstance(row, dict):
            yield number, row
        else:
            problems.add(number, "no object", ' is not an object with columns, such as {"text": ...}')


def parquet_rows(path: Path, where: str, check: Check) -> Rows:
    """Read and check a Parquet file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"{where}: reading .parquet needs pyarrow: {_EXTRA}") from error

    def read(_: Problems) -> Iterator[Row]:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {name: plain_value(value) for name, value in row.items()}

    try:
        with parquet.ParquetFile(path) as file:
            columns = list(file.schema_arrow.names)
        check_width(len(columns), where)
        if double := next((name for name in columns if columns.count(name) > 1), None):
            raise ValueError(f"{where} has several columns {double!r}; there must be one of each name")
        check.columns(columns)
        return _checked(read, Problems(where, "row"), check, columns)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{where} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error


def plain_value(value: Any) -> Any:
    """Return a value as JSON can hold it: dates in ISO format, decimals as text, bytes in base64."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    if isinstance(value, dict):
        return {str(key): plain_value(each) for key, each in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)  # such as a UUID


def sheet_records(path: Path, where: str, *, has_header: bool) -> tuple[Callable[[], Iterator[Record]], list[str]]:
    """Return a reader of the first sheet of an Excel workbook, and notes; empty rows are skipped.

    Without a header the longest row says how many columns there are.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ValueError(f"{where}: reading {path.suffix} needs openpyxl: {_EXTRA}") from error
    try:
        with path.open("rb") as binary, zipfile.ZipFile(binary) as archive:
            check_archive(archive)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that are no values
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                sheet, *others = book.worksheets
                sheet.reset_dimensions()
                rows = [[_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)]
            finally:
                book.close()
    except Exception as error:  # a damaged workbook may raise anything
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(f"{where} cannot be read as an Excel workbook ({cause}); save it as .csv") from error
    full = [(number, row) for number, row in enumerate(rows, start=1) if _without_empty(row)]
    widths = [len(_without_empty(row)) for _, row in full]
    width = max(widths[:1] if has_header else widths, default=0)
    names = ", ".join(repr(each.title) for each in others)
    notes = [f"the first sheet, {sheet.title!r}, is read; there are others: {names}"] if others else []

    def records() -> Iterator[Record]:
        for number, row in full:
            cells = _without_empty(row)
            yield Record(number, cells + [""] * (width - len(cells)))

    return records, notes


def _cell(value: Any) -> str:
    """Return a cell as text: whole numbers without a fraction, dates in ISO format."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(plain_value(value))


def _without_empty(cells: list[str]) -> list[str]:
    """Return cells without the empty ones at the end."""
    return cells[: max((place for place, cell in enumerate(cells, start=1) if cell.strip()), default=0)]
