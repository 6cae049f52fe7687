"""Statistics of a table's columns: records that seem to be joined rows, and the columns of texts and labels."""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple, final

from seqlab.io.tables.rows import Record, without_end

_MOST_VALUES = 5_000
_MOST_CANDIDATES = 10_000
_MANY = 6
"""Fewest lines of a field that is itself a table, for it to be joined rows whatever other rows hold."""
_MANY_ROWS = 20
"""Fewest rows on one line each whose values are taken for all that occur."""
_SURE = 0.8
"""Smallest share of a field's further lines that look like rows, for three or more to be joined rows."""


@final
class Span(NamedTuple):
    """A record of several lines: how many of its further lines look like rows, and whether it is joined rows."""

    first: int
    last: int
    rows: int
    sure: bool


@final
class ColumnProfile:
    """Statistics of the columns over rows of one line, and the records of several lines."""

    def __init__(self, columns: int, label: int | None = None) -> None:
        self.label, self.rows = label, 0
        self.values: list[set[str] | None] = [set() for _ in range(columns)]
        self.numbers = [True] * columns
        self.shortest, self.longest_field = [sys.maxsize] * columns, [-1] * columns
        self.characters = [0] * columns
        self.spans = 0
        self.longest = (0, 0)
        self._candidates: list[tuple[int, tuple[str, ...]]] = []

    def add(self, record: Record) -> None:
        """Add a record with one field for each column."""
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
            self.characters[column] += len(value)
            known = self.values[column]
            if known is not None:
                known.add(value)
                if len(known) > _MOST_VALUES:
                    self.values[column] = None
            self.numbers[column] = self.numbers[column] and _is_number(value)
            self.shortest[column] = min(self.shortest[column], len(value))
            self.longest_field[column] = max(self.longest_field[column], len(value))

    def guess(self) -> tuple[int, int] | None:
        """Return the likeliest columns of texts and labels: the longest values, and the fewest distinct of the rest."""
        if self.rows < 2 or len(self.values) < 2:
            return None
        text = max(range(len(self.values)), key=lambda column: self.characters[column])
        counts = {
            column: len(known)
            for column, known in enumerate(self.values)
            if column != text and known is not None and 2 <= len(known) <= max(2, self.rows // 2)
        }
        return (text, min(counts, key=lambda column: counts[column])) if counts else None

    def fits(self, fields: Sequence[str]) -> bool:
        """Return whether fields look like a row: in the telling columns their values occur in other rows."""
        columns = self.telling_columns
        if not columns or len(fields) != len(self.values):
            return False
        return all(self._occurs(column, fields[column].strip().strip('"').strip()) for column in columns)

    def has_any(self, fields: Sequence[str]) -> bool:
        """Return whether the value of a field occurs in another row."""
        return any(
            known is not None and field.strip() in known
            for field, known in zip(fields, self.values, strict=True)
            if field.strip()
        )

    @property
    def telling_columns(self) -> list[int]:
        """The columns that identify a row: labels, numbers, and those with few values."""
        return [column for column in range(len(self.values)) if self.rows and self._is_telling(column)]

    def _is_telling(self, column: int) -> bool:
        known = self.values[column]
        if known is None:
            return self.numbers[column]
        return column == self.label or self.numbers[column] or len(known) <= self.rows // 4

    def _occurs(self, column: int, value: str) -> bool:
        known = self.values[column]
        return (known is not None and value in known) or (self.numbers[column] and _is_number(value))

    def joined_rows(self, separator: str) -> list[Span]:
        """Return the records of several lines whose lines look like rows, once all records are added."""
        found = []
        for first, lines in self._candidates:
            bare = [without_end(line).split(separator) for line in lines]
            begin, *further = [fields for fields in bare if fields != [""]]
            rows = sum(map(self.fits, further)) if self.fits(begin) else 0
            sure = rows >= 2 and (rows == len(further) or (rows >= 3 and rows >= _SURE * len(further)))
            lines_as_rows = [begin, *further]
            if not sure and len(self.values) > 1 and all(len(each) == len(self.values) for each in lines_as_rows):
                sure = self._is_regular(lines_as_rows)
                if sure or self.rows < _MANY_ROWS or all(map(self._has_lengths, lines_as_rows)):
                    # a label may be missing in few rows, or among many classes
                    rows = len(further)
            if rows:
                found.append(Span(first, first + len(lines) - 1, rows, sure))
        return found

    def _has_lengths(self, fields: Sequence[str]) -> bool:
        """Return whether the length of each field occurs in its column, as that of labels that occur once."""
        values = (field.strip(' "') for field in fields)
        return all(
            low <= len(value) <= high
            for value, low, high in zip(values, self.shortest, self.longest_field, strict=True)
        )

    def _is_regular(self, rows: Sequence[Sequence[str]]) -> bool:
        """Return whether many lines form a table by themselves, whose values need not occur in other rows."""
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
