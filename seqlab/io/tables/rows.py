"""Labels, and checks of a table's rows."""

import csv
import json
import math
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from seqlab.io.safe_io import normalise_unicode

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII)
_MISSING = frozenset({"nan", "null", "none", "n/a", "na", "#n/a", "<na>", "nil", "nat"})
_SHOWN_LABELS = 5


def label_of(value: Any) -> str:
    """Return the label of a value.

    A string is normalised to NFC and stripped. Numbers and booleans are written as in JSON, so that ``1`` and ``"1"``
    are one label, and ``1`` and ``1.0`` are two.

    Raises:
        ValueError: it is empty, null, NaN, infinite, a list or an object.
    """
    finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, bool | int | float) and finite:
        value = json.dumps(value)
    if not isinstance(value, str):
        raise ValueError(f"must be a string, got {json.dumps(value)[:40]}")
    label = normalise_unicode("NFC", value).strip()
    if not label:
        raise ValueError("is empty; each text needs a label")
    return label


def label_notes(labels: Iterable[str]) -> list[str]:
    """Return notes on labels that are easily confused, and on those that may mark a missing value."""
    labels = list(labels)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[_folded(label)].append(label)
    alike = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    notes = []
    if alike:
        more = f", and {len(alike) - _SHOWN_LABELS:,} more" if len(alike) > _SHOWN_LABELS else ""
        notes.append(
            "labels that differ only in capitals, blanks, invisible characters, quotes or how a number is written:"
            f" {', '.join(alike[:_SHOWN_LABELS])}{more}; each is a class of its own"
        )
    if missing := [label for label in labels if label.casefold() in _MISSING]:
        notes.append(f"labels that may stand for a missing value: {', '.join(map(repr, missing))}; each is a class")
    return notes


def similar_to(label: str, known: Iterable[str]) -> str | None:
    """Return a known label that is easily confused with a label, if there is one."""
    folded = _folded(label)
    return next((each for each in known if each != label and _folded(each) == folded), None) if folded else None


def missing_column(name: str, columns: Sequence[str]) -> str:
    """Return the message for a column that a table does not have."""
    near = similar_to(name, columns)
    alike = "" if near is None else f" ({near!r} differs in capitals, blanks or invisible characters)"
    there = ", ".join(each if each.isprintable() else repr(each) for each in columns)
    return f"has no column {name!r}; there are {there}{alike}"


def _folded(label: str) -> str:
    """Return a form that easily confused labels share."""
    seen = "".join(letter for letter in normalise_unicode("NFKC", label) if unicodedata.category(letter)[0] != "C")
    plain = " ".join(seen.split()).casefold().strip("\"'\u201c\u201d\u2018\u2019 ")
    return repr(float(plain)) if _NUMBER.fullmatch(plain) else plain


_SHOWN_ROWS = 20


@final
class Problems:
    """Problems of the rows of a file: the first 20 with their lines, and the number of all by reason."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.first: list[str] = []
        self.counts: Counter[str] = Counter()
        self.advice: dict[str, None] = {}

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, line: int, reason: str, text: str, advice: str = "") -> None:
        """Add the problem of a row."""
        self.counts[reason] += 1
        if len(self.first) < _SHOWN_ROWS:
            self.first.append(f"line {line:,}{text}")
        if advice:
            self.advice[advice] = None

    def check(self, further: str = "") -> None:
        """Raise an error if there are problems."""
        if not self.counts:
            return
        advice = "; ".join([*self.advice, *([further] if further else [])])
        advice = f"; {advice}" if advice else ""
        if len(self) == 1:
            raise ValueError(f"{self.where}, {self.first[0]}{advice}")
        prefix = f"the first {_SHOWN_ROWS} are " if len(self) > _SHOWN_ROWS else ""
        counted = ", ".join(f"{count:,} with {reason}" for reason, count in self.counts.most_common())
        raise ValueError(
            f"{self.where}: {len(self):,} rows cannot be read ({counted}): {prefix}{'; '.join(self.first)}{advice}"
        )


Lines = Callable[[], Iterable[str]]
"""Returns an iterator over a file's lines, with their ends and without byte-order marks; only a newline ends one."""
Row = tuple[int, dict[str, Any]]


@final
@dataclass(frozen=True)
class Check:
    """Requirements of a reader on a table.

    Attributes:
        columns: raises ``ValueError`` where a needed column is missing.
        row: is given the number of a row's line, its values by column and the problems, to which it adds.
        label: the column with the labels, if there is one.
    """

    columns: Callable[[Sequence[str]], None] = lambda _: None
    row: Callable[[int, Mapping[str, Any], Problems], None] = lambda *_: None
    label: str | None = None


@dataclass(frozen=True)
class Rows:
    """A file of rows that was read and checked once from end to end.

    Attributes:
        columns: their names, in order; of JSON lines all that occur.
        count: rows without the header.
        notes: how the file was interpreted, for the user.
        plain: whether no field and no column's name has a tab or a line end.
        read: iterates over the number of the line where each row begins, and its values by column.
    """

    columns: tuple[str, ...]
    count: int
    notes: tuple[str, ...]
    plain: bool
    read: Callable[[], Iterator[Row]]


def breaks(field: str) -> bool:
    """Return whether a field needs quotes for its tabs or line ends."""
    return "\t" in field or "\n" in field or "\r" in field


_LONGEST_FIELD = 2**31 - 1
_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')


@final
class Record(NamedTuple):
    """A row of a table: the number of its first line, its values, and its lines where it spans several."""

    line: int
    fields: list[str]
    lines: tuple[str, ...] = ()


def unquoted(lines: Iterable[str], separator: str) -> Iterator[Record]:
    """Split each line into a record without regard to quotes; empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if bare := without_end(line):
            yield Record(number, bare.split(separator))


def without_end(line: str) -> str:
    """Return a line without its line end."""
    return line.removesuffix("\n").rstrip("\r")


def quoted(lines: Iterable[str], separator: str, problems: Problems, *, skip_blanks: bool = False) -> Iterator[Record]:
    """Parse records whose fields may be in quotes (RFC 4180); empty lines between records are skipped."""
    recorder = _Recorder(lines)
    reader = csv.reader(recorder, delimiter=separator, strict=True, skipinitialspace=skip_blanks)
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        while True:
            line = reader.line_num + 1
            recorder.taken.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                _refuse(error, line, recorder.taken, separator, problems)
                continue
            if fields:
                yield Record(line, fields, tuple(recorder.taken) if len(recorder.taken) > 1 else ())
    finally:
        csv.field_size_limit(before)


@final
class _Recorder:
    """Iterator over lines that keeps those since ``taken`` was cleared."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.taken = iter(lines), list[str]()

    def __iter__(self) -> "_Recorder":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken.append(line)
        return line


def _refuse(error: csv.Error, line: int, taken: list[str], separator: str, problems: Problems) -> None:
    last = line + len(taken) - 1
    twice = "a quote within quotes must be written twice"
    bad_field = _bad_field("".join(taken), separator)
    if bad_field is None:
        text = " has a carriage return in it, outside quotes"
        problems.add(last, "a carriage return", text, "end lines alike, and put a text with line ends into quotes")
        return
    opened, is_closed = line + bad_field[0], bad_field[1]
    if is_closed:
        since = f" in the field that line {opened:,} opens" if opened < last else ""
        problems.add(last, "a quote where none may be", f": {error}{since}", twice)
    else:
        rest = f", so that all of lines {opened:,} to {last:,} would be one field" if last > opened else ""
        text = f": {error}; {twice}, and the one that opens the field here is never closed{rest}"
        problems.add(opened, "a quote that is never closed", text)


def _bad_field(text: str, separator: str) -> tuple[int, bool] | None:
    """Return the line ends before the first field with a wrong quote, and whether its quote is closed too early.

    ``None`` where all quotes are right.
    """
    place = 0
    while place < len(text):
        if text[place] == '"':
            match = _QUOTED.match(text, place)
            if match is None or text[match.end() : match.end() + 1] not in (separator, "\r", "\n", ""):
                return text.count("\n", 0, place), match is not None
            place = match.end() + 1
            continue
        following = text.find(separator, place)
        if following < 0:
            break
        place = following + 1
    return None


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
            known = self.values[column]
            if known is not None:
                known.add(value)
                if len(known) > _MOST_VALUES:
                    self.values[column] = None
            self.numbers[column] = self.numbers[column] and _is_number(value)
            self.shortest[column] = min(self.shortest[column], len(value))
            self.longest_field[column] = max(self.longest_field[column], len(value))

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
