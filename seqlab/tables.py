"""Rows of CSV, TSV and JSON lines, one after another, and one clear line where they are not as they must be."""

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

from seqlab.bounded import check_depth

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")

MOST_COLUMNS = 10_000
_LONGEST_FIELD = 2**31 - 1


def separated(lines: Iterable[str], where: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Read the header of a table, and then its rows: the number of the line where each ends, and the fields.

    A field may be as long as the file. Empty lines are no rows.

    Args:
        lines: with their ends, which must not have been translated.
        where: what an error begins with.
        separator: between the fields.

    Raises:
        ValueError: a row has more or fewer fields than the header, or a quote is not closed.
    """
    reader = csv.reader(lines, delimiter=separator, strict=True)
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(header) > MOST_COLUMNS:
            raise ValueError(f"{where} has {len(header):,} columns; a table has {MOST_COLUMNS:,} at most")
        yield reader.line_num, header
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"{where}, line {reader.line_num:,} has {len(row)} columns, and the header {len(header)};"
                    f" a text with {separator!r} or a newline in it must be in quotes"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"{where}, line {reader.line_num:,}: {error}; a quote within quotes must be written twice"
        ) from error
    finally:
        csv.field_size_limit(before)


def json_lines(lines: Iterable[str], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read JSON objects, one a line: the line's number and the values by column. Empty lines are no rows.

    Args:
        lines: ended by newlines alone, as U+2028 and its like may stand in a text.
        where: what an error begins with.

    Raises:
        ValueError: a line is no JSON object.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            check_depth(row)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}, line {number:,} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'{where}, line {number:,} is no object with columns, such as {{"text": ...}}')
        yield number, row
