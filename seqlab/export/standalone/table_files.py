"""Tables of UTF-8 text for predict.py: CSV, TSV and JSON lines; needs the standard library only."""

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
SHOWN = 20
Row = tuple[int, dict[str, Any]]
"""The number of the line where a row begins, and its values by column."""


@dataclass
class Table:
    """Rows of a file.

    Attributes:
        path: of the file.
        columns: their names, in order; of JSON lines all that occur.
        rows: in order.
        plain: whether no value has a tab or a line end.
    """

    path: Path
    columns: list[str]
    rows: list[Row]
    plain: bool

    def text(self, row: Row, names: Sequence[str]) -> str:
        """Return the text of a row: the values of several columns that are not blank, joined by line ends."""
        line, values = row
        parts = []
        for name in names:
            if name not in values:
                there = ", ".join(self.columns)
                where = self.path if name not in self.columns else f"{self.path}, line {line:,}"
                raise ValueError(f"{where} has no column {name!r}; there are {there}. Add --column")
            value = "" if values[name] is None else values[name]
            if not isinstance(value, str):
                raise ValueError(f"{self.path}, line {line:,}: {name} must be a text, got {json.dumps(value)[:40]}")
            parts.append(value)
        return parts[0] if len(parts) == 1 else "\n".join(part for part in parts if part.strip())

    def new_columns(self) -> tuple[str, str]:
        """Return names for the label and its probability that the table does not have."""
        for names in (("label", "probability"), ("predicted_label", "predicted_probability")):
            if not set(names) & set(self.columns):
                return names
        raise ValueError(f"{self.path} has the columns label and predicted_label; rename them")

    def write(self, path: Path, columns: Sequence[str]) -> None:
        """Write the rows to a temporary file, which is renamed at the end."""
        suffix = check_output(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                if suffix in JSON_LINES:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for _, row in self.rows)
                else:
                    self._write_separated(file, SEPARATORS[suffix], columns)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise

    def _write_separated(self, file: Any, separator: str, columns: Sequence[str]) -> None:
        records = [list(columns), *([_field(row.get(name)) for name in columns] for _, row in self.rows)]
        if separator == "\t" and self.plain:  # where quotes are text
            file.writelines("\t".join(fields) + "\n" for fields in records)
        else:
            csv.writer(file, delimiter=separator).writerows(records)


def _field(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_output(path: Path) -> str:
    """Return the ending of a file to write."""
    suffix, kinds = path.suffix.lower(), (*SEPARATORS, *JSON_LINES)
    if suffix not in kinds:
        raise ValueError(f"{path}: answers are written as one of {', '.join(kinds)}, which the name must end in")
    return suffix


def read_table(path: Path) -> Table:
    """Read a table; a ``ValueError`` names its bad rows."""
    data = path.read_bytes()
    if (zero := data.find(b"\0")) >= 0:
        raise ValueError(f"{path}: byte {zero:,} is zero, as in UTF-16 or binary data; save it as UTF-8")
    try:
        text = data.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start:,} is not UTF-8; save it as UTF-8") from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    problems: list[str] = []
    separator = SEPARATORS.get(path.suffix.lower())
    columns, rows = _json_rows(text, problems) if separator is None else _separated(path, text, separator, problems)
    if problems:
        more = f"; and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        found = f"{path}: rows that cannot be read: {len(problems):,}"
        raise ValueError(f"{found}: {'; '.join(problems[:SHOWN])}{more}")
    if not rows:
        raise ValueError(f"{path} has a header, but no rows")
    values = (value for _, row in rows for value in row.values())
    plain = not any(isinstance(value, str) and re.search("[\t\n\r]", value) for value in (*columns, *values))
    return Table(path, columns, rows, plain)


def _json_rows(text: str, problems: list[str]) -> tuple[list[str], list[Row]]:
    """Read one JSON object a line, or one array of them."""
    found: list[tuple[int, Any]] = []
    with suppress(ValueError, RecursionError):
        if isinstance(items := json.loads(text, object_pairs_hook=_unique), list):
            found = list(enumerate(items, start=1))
    for number, line in enumerate(() if found else text.split("\n"), start=1):
        if line.strip():
            try:
                found.append((number, json.loads(line, object_pairs_hook=_unique)))
            except (ValueError, RecursionError) as error:
                problems.append(f"line {number:,} is not valid JSON: {error}")
    columns: dict[str, None] = {}
    for number, row in found:
        if not isinstance(row, dict):
            problems.append(f'line {number:,} is not an object with columns, such as {{"text": ...}}')
            continue
        columns |= dict.fromkeys(row)
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            problems.append(f"line {number:,} has half a character")
    return list(columns), found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _separated(path: Path, text: str, separator: str, problems: list[str]) -> tuple[list[str], list[Row]]:
    """Read separated values; the header chooses another separator if it does not have the one of the file's name."""
    text = text if "\n" in text else text.replace("\r", "\n")
    header = next(line for line in text.split("\n") if line.strip("\r"))
    if separator not in header:
        separator = max("\t;|,", key=header.count) if re.search("[\t;|,]", header) else separator
    names = header.rstrip("\r").split(separator)
    is_quoted = separator != "\t" or all(len(name) > 1 and name[0] == name[-1] == '"' for name in names)
    read: Callable[..., Iterator[tuple[int, list[str]]]] = _quoted if is_quoted else _unquoted
    records = list(read(text, separator, problems))
    if not is_quoted and _widths(records) > 1:  # fields with tabs or line ends in quotes
        tried: list[str] = []
        again = list(_quoted(text, separator, tried))
        records = again if not tried and _widths(again) == 1 else records
    columns = [name.strip().removeprefix("\ufeff") for name in records[0][1]] if records else []
    if double := next((name for name in columns if name and columns.count(name) > 1), None):
        raise ValueError(f"{path} has several columns {double!r}; there must be one of each name")
    columns = [name or f"column {number}" for number, name in enumerate(columns, start=1)]
    rows: list[Row] = []
    for number, fields in records[1:]:
        if len(fields) != len(columns):
            problems.append(f"line {number:,} has {len(fields):,} fields, the header {len(columns):,}")
        rows.append((number, dict(zip(columns, fields, strict=False))))
    return columns, rows


def _widths(records: Sequence[tuple[int, list[str]]]) -> int:
    return len({len(fields) for _, fields in records})


def _unquoted(text: str, separator: str, _: list[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if bare := line.rstrip("\r"):
            yield number, bare.split(separator)


def _quoted(text: str, separator: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(f"line {line:,}: {error}; a quote within quotes must be written twice")
            continue
        if fields:
            yield line, fields
