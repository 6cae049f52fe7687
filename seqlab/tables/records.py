"""Physical lines as records: with quotes by Python's own csv module, without quotes by splitting."""

import csv
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, final

from seqlab.tables.problems import Problems

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
