"""Rows of a table: records, quoting and collected problems."""

import csv
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

_SHOWN = 20


@final
class Problems:
    """What is wrong with the rows of a file: the first 20 with their lines, all of them counted by reason.

    Args:
        where: what the message begins with: the option and its value, or the file.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.shown: list[str] = []
        self.counts: Counter[str] = Counter()
        self.advice: dict[str, None] = {}

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, line: int, reason: str, said: str, advice: str = "") -> None:
        """Take down a bad row.

        Args:
            line: its number, from 1.
            reason: what all rows of its kind have in common, such as "another number of columns".
            said: what is wrong with this one; goes behind the number of the line.
            advice: how to fix it.
        """
        self.counts[reason] += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(f"line {line:,}{said}")
        if advice:
            self.advice[advice] = None

    def check(self, further: str = "") -> None:
        """Raise if there are any.

        Args:
            further: advice that concerns the file as a whole.

        Raises:
            ValueError: one line with all of them.
        """
        if not self.counts:
            return
        advice = "; ".join([*self.advice, *([further] if further else [])])
        advice = f"; {advice}" if advice else ""
        if len(self) == 1:
            raise ValueError(f"{self.where}, {self.shown[0]}{advice}")
        first = f"the first {_SHOWN} are " if len(self) > _SHOWN else ""
        counted = ", ".join(f"{count:,} with {reason}" for reason, count in self.counts.most_common())
        raise ValueError(
            f"{self.where}: {len(self):,} rows cannot be read ({counted}): {first}{'; '.join(self.shown)}{advice}"
        )


Lines = Callable[[], Iterable[str]]
"""Begins to read a file's lines anew, with their ends and without byte-order marks; only a newline ends one."""
Row = tuple[int, dict[str, Any]]


@final
@dataclass(frozen=True)
class Check:
    """What a reader asks of a file beyond its form.

    Attributes:
        columns: raises ``ValueError`` where the columns of a table are not those it needs.
        row: takes down what is wrong with a row: the number of its line, its values by column, the list of problems.
        label: the column with the labels, if there is one.
    """

    columns: Callable[[Sequence[str]], None] = lambda _: None
    row: Callable[[int, Mapping[str, Any], Problems], None] = lambda *_: None
    label: str | None = None


@final
@dataclass(frozen=True)
class Rows:
    """A file of rows that was read once from end to end, so that no later row can be a surprise.

    Attributes:
        columns: their names, in order; of JSON lines all that occur.
        count: rows, the header not counted.
        notes: what a reader should know of how it was read.
        plain: whether no field and no column's name has a tab or a line end in it.
        read: begins to read anew: the number of the line where each row begins, and its values by column.
    """

    columns: tuple[str, ...]
    count: int
    notes: tuple[str, ...]
    plain: bool
    read: Callable[[], Iterator[Row]]


def breaks(field: str) -> bool:
    """Say whether a table without quotes cannot hold a field."""
    return "\t" in field or "\n" in field or "\r" in field


_LONGEST_FIELD = 2**31 - 1
_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')


@final
class Record(NamedTuple):
    """A row of a table.

    Attributes:
        line: the number of the line where it begins, from 1.
        fields: what it holds.
        lines: its physical lines where it spans several; empty for one.
    """

    line: int
    fields: list[str]
    lines: tuple[str, ...] = ()


def unquoted(lines: Iterable[str], separator: str) -> Iterator[Record]:
    """Read each line as a record; quotes are characters like any other. Empty lines are no records."""
    for number, line in enumerate(lines, start=1):
        if bare := without_end(line):
            yield Record(number, bare.split(separator))


def without_end(line: str) -> str:
    """Take the line end off a line."""
    return line.removesuffix("\n").rstrip("\r")


def quoted(lines: Iterable[str], separator: str, problems: Problems, *, skip_blanks: bool = False) -> Iterator[Record]:
    """Read records whose fields may stand in quotes (RFC 4180). Empty lines between records are no records.

    Args:
        lines: with their ends.
        separator: between the fields.
        problems: takes the records that cannot be read.
        skip_blanks: whether blanks behind a separator are left out.
    """
    seen = _Remembered(lines)
    reader = csv.reader(seen, delimiter=separator, strict=True, skipinitialspace=skip_blanks)
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        while True:
            line = reader.line_num + 1
            seen.taken.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                _refuse(error, line, seen.taken, separator, problems)
                continue
            if fields:
                yield Record(line, fields, tuple(seen.taken) if len(seen.taken) > 1 else ())
    finally:
        csv.field_size_limit(before)


@final
class _Remembered:
    """Passes lines on, and keeps those that were taken since ``taken`` was cleared."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.taken = iter(lines), list[str]()

    def __iter__(self) -> "_Remembered":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken.append(line)
        return line


def _refuse(error: csv.Error, line: int, taken: list[str], separator: str, problems: Problems) -> None:
    last = line + len(taken) - 1
    twice = "a quote within quotes must be written twice"
    if "end of data" in str(error):
        opened = line + _opened("".join(taken), separator)
        rest = f", so that all of lines {opened:,} to {last:,} would be one field" if last > opened else ""
        said = f": {error}; {twice}, and the one that opens the field here is never closed{rest}"
        problems.add(opened, "a quote that is never closed", said)
    elif "new-line" in str(error):
        said = " has a carriage return in it, outside quotes"
        problems.add(last, "a carriage return", said, "end lines alike, and put a text with line ends into quotes")
    else:
        opened = line + _opened("".join(taken), separator)
        since = f" in the field that line {opened:,} opens" if opened < last else ""
        problems.add(last, "a quote where none may be", f": {error}{since}", twice)


def _opened(text: str, separator: str) -> int:
    """Count the line ends before the field whose quote is never closed, or is closed in the middle of a text."""
    place = 0
    while place < len(text):
        if text[place] == '"':
            if (match := _QUOTED.match(text, place)) is None:
                return text.count("\n", 0, place)
            if text[match.end() : match.end() + 1] not in (separator, "\r", "\n", ""):
                return text.count("\n", 0, place)
            place = match.end() + 1
            continue
        following = text.find(separator, place)
        if following < 0:
            break
        place = following + 1
    return 0


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
class ColumnProfile:
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
