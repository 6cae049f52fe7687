"""JSON objects, one a line."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from seqlab.bounded import check_depth
from seqlab.tables.header import MOST_COLUMNS
from seqlab.tables.problems import Problems
from seqlab.tables.rows import Check, Lines, Row, Rows, breaks

_LISTED = "write one object a line, without brackets around them and commas between them"


def json_rows(lines: Lines, where: str, check: Check) -> Rows:
    """Read a file of JSON objects once from end to end and check it.

    Raises:
        ValueError: a line is no object, has a key twice, or is not as ``check`` asks; all such lines are named.
    """
    problems = Problems(where)
    columns: dict[str, None] = {}
    count, plain = 0, True
    for line, row in _objects(lines(), problems):
        if count == 0 or row.keys() - columns.keys():
            columns |= dict.fromkeys(row)
            if len(columns) > MOST_COLUMNS:
                raise ValueError(f"{where} has more than {MOST_COLUMNS:,} columns; a table has no more")
        count += 1
        plain = plain and not any(isinstance(value, str) and breaks(value) for value in (*row, *row.values()))
        check.row(line, row, problems)
    problems.check()
    return Rows(tuple(columns), count, (), plain, lambda: _objects(lines(), Problems(where)))


def _objects(lines: Iterable[str], problems: Problems) -> Iterator[Row]:
    """Read JSON objects, one a line. Empty lines are no rows."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
            check_depth(row)
        except (ValueError, RecursionError) as error:
            listed = line.strip().startswith("[") or line.rstrip().endswith(",")
            problems.add(number, "no JSON", f" is no JSON: {error}", _LISTED if listed else "")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            said = ' is no object with columns, such as {"text": ...}'
            problems.add(number, "no object", said, _LISTED if isinstance(row, list) else "")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        double = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {double!r} is there twice")
    return row
