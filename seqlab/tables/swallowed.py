"""Rows that an unbalanced quote has joined to one: found by lines within a field that read as rows themselves.

A file where one text begins with a quote, and another one some lines on ends with one, is well formed: all between them
is one field. What tells it from a text of several lines is that each of these lines has as many fields as the header,
and in the columns whose values repeat, or are numbers, the values of other rows.
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple, final

from seqlab.tables.records import Record, without_end

_MOST_VALUES = 5_000
_MOST_CANDIDATES = 10_000
_MANY = 6
"""Lines from which on a field that is itself a table is taken for rows, whatever other rows hold."""
_MANY_ROWS = 20
"""Rows in one line from which on their values are believed to be all that there are."""
_SURE = 0.8
"""Share of a field's further lines that read as rows from which on three of them or more are taken for rows."""


@final
class Span(NamedTuple):
    """A record of several lines.

    Attributes:
        first: number of its first line.
        last: number of its last line.
        rows: those of its further lines that read as rows.
        sure: whether it is taken for several rows.
    """

    first: int
    last: int
    rows: int
    sure: bool


@final
class Profile:
    """What the columns of the rows that stand in one line hold, and the records of several lines.

    Args:
        columns: how many there are.
        label: index of the column with the labels, if there is one.
    """

    def __init__(self, columns: int, label: int | None = None) -> None:
        self.label, self.rows = label, 0
        self.values: list[set[str] | None] = [set() for _ in range(columns)]
        self.numbers = [True] * columns
        self.shortest, self.longest_field = [sys.maxsize] * columns, [-1] * columns
        self.spans = 0
        self.longest = (0, 0)
        self._candidates: list[tuple[int, tuple[str, ...]]] = []

    def add(self, record: Record) -> None:
        """Take a record with as many fields as there are columns."""
        if record.lines:
            self.spans += 1
            last = record.line + len(record.lines) - 1
            self.longest = max(self.longest, (record.line, last), key=lambda span: span[1] - span[0])
            if len(self._candidates) < _MOST_CANDIDATES:
                self._candidates.append((record.line, record.lines))
            return
        self.rows += 1
        for column, field in enumerate(record.fields):
            value = field.strip()
            known = self.values[column]
            if known is not None:
                known.add(value)
                if len(known) > _MOST_VALUES:
                    self.values[column] = None
            self.numbers[column] = self.numbers[column] and _is_number(value)
            self.shortest[column] = min(self.shortest[column], len(value))
            self.longest_field[column] = max(self.longest_field[column], len(value))

    def fits(self, fields: Sequence[str]) -> bool:
        """Say whether fields look like a row: in the telling columns they hold what other rows hold."""
        if not self.tells or len(fields) != len(self.values):
            return False
        return all(self._knows(column, fields[column].strip().strip('"').strip()) for column in self.tells)

    def has_any(self, fields: Sequence[str]) -> bool:
        """Say whether a field has the value of another row in its column."""
        return any(
            known is not None and field.strip() in known
            for field, known in zip(fields, self.values, strict=True)
            if field.strip()
        )

    @property
    def tells(self) -> list[int]:
        """The columns by which a line can be told to be a row."""
        return [column for column in range(len(self.values)) if self._tells(column)]

    def _tells(self, column: int) -> bool:
        known = self.values[column]
        if known is None or not self.rows:
            return self.rows > 0 and self.numbers[column]
        return column == self.label or self.numbers[column] or len(known) <= self.rows // 4

    def _knows(self, column: int, value: str) -> bool:
        known = self.values[column]
        return (known is not None and value in known) or (self.numbers[column] and _is_number(value))

    def judge(self, separator: str) -> list[Span]:
        """Find the records of several lines in which lines read as rows, once all records were added."""
        found = []
        for first, lines in self._candidates:
            bare = [without_end(line).split(separator) for line in lines]
            begin, *further = [fields for fields in bare if fields != [""]]
            rows = sum(map(self.fits, further)) if self.fits(begin) else 0
            sure = rows >= 2 and (rows == len(further) or (rows >= 3 and rows >= _SURE * len(further)))
            if not sure and self._alike([begin, *further]):
                sure = self._regular([begin, *further])
                if sure or self.rows < _MANY_ROWS or all(map(self._has_lengths, [begin, *further])):
                    # few rows, or many classes, need not show every label
                    rows = len(further)
            if rows:
                found.append(Span(first, first + len(lines) - 1, rows, sure))
        return found

    def _alike(self, rows: Sequence[Sequence[str]]) -> bool:
        """Say whether all lines have as many fields as there are columns, which texts of one column all have."""
        return len(self.values) > 1 and all(len(fields) == len(self.values) for fields in rows)

    def _has_lengths(self, fields: Sequence[str]) -> bool:
        """Say whether each field is as long as some other row's in its column, as labels are that occur once."""
        values = (field.strip(' "') for field in fields)
        return all(
            low <= len(value) <= high
            for value, low, high in zip(values, self.shortest, self.longest_field, strict=True)
        )

    def _regular(self, rows: Sequence[Sequence[str]]) -> bool:
        """Say whether many lines are as regular as a table, whose values need not occur in other rows."""
        columns = len(self.values)
        return len(rows) >= _MANY and any(
            len(values) <= len(rows) // 3 and all(values)
            for column in ([self.label] if self.label is not None else range(columns))
            for values in [{fields[column].strip(' "') for fields in rows}]
        )


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
