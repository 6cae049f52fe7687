"""Table reader for CSV, TSV and JSON lines."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

from seqlab.io.safe_io import check_depth
from seqlab.io.tables.decoding import Layout
from seqlab.io.tables.rows import (
    Check,
    ColumnProfile,
    Lines,
    Problems,
    Record,
    Row,
    Rows,
    Span,
    breaks,
    quoted,
    unquoted,
    without_end,
)

MOST_COLUMNS = 10_000
_SENTENCE = 5
"""Words from which on the name of a column is taken for a text."""
_EVIDENCE = 3
"""Lines that must be there to believe them in place of the file's name."""
_EXCEL = re.compile(r"sep=(.?)", re.IGNORECASE)
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


@final
@dataclass(frozen=True)
class Dialect:
    """How the rows of a file are written.

    Attributes:
        separator: between the fields.
        quoting: whether fields may stand in quotes.
        skip_blanks: whether blanks behind a separator are left out, as in ``"text", "label"``.
        notes: what was found out, for a reader.
    """

    separator: str
    quoting: bool
    skip_blanks: bool = False
    notes: tuple[str, ...] = ()


def sniff(head: Sequence[str], separator: str, layout: Layout) -> Dialect:
    """Choose a dialect by the first lines of a file.

    Args:
        head: the first lines that are not empty.
        separator: what the file's name stands for.
        layout: what the user says.
    """
    notes = []
    lines = [without_end(line) for line in head]
    if lines and (other := _other_separator(lines, separator)) is not None:
        notes.append(f"columns are separated by {NAMES[other]}, not by {NAMES[separator]} as its name says")
        separator = other
    quoting = layout.quoting == "standard" or (layout.quoting == "auto" and separator != "\t")
    if layout.quoting == "auto" and not quoting and lines and _is_quoted(lines[0], separator):
        quoting = True
        notes.append("names of the header are in quotes, so that quotes are read as in CSV")
    blanks = quoting and any(f'{separator} "' in line for line in lines[:2]) and f"{separator} " in lines[0]
    if blanks:
        notes.append("blanks behind separators are left out")
    return Dialect(separator, quoting, blanks, tuple(notes))


def _other_separator(lines: Sequence[str], separator: str) -> str | None:
    """Find another separator that cuts most of the first lines alike, where the expected one does not cut the first."""
    if separator in lines[0]:
        return None
    found = {}
    for other in NAMES:
        header, *rows = [next(csv.reader([line], delimiter=other), []) for line in lines]
        if other == separator or len(header) < 2 or not _names(header):
            continue
        if len(lines) < _EVIDENCE and not _is_quoted(lines[0], other):
            continue
        joined = list(csv.reader((f"{line}\n" for line in lines[1:]), delimiter=other))  # texts of several lines
        if any(2 * sum(len(row) == len(header) for row in each) >= len(each) for each in (rows, joined)):
            found[other] = len(header)
    return max(found, key=lambda other: found[other], default=None)


def _names(fields: Sequence[str]) -> bool:
    """Say whether fields can be the names of columns: short, and each another."""
    names = [field.strip().strip('"') for field in fields]
    return len(set(names)) == len(names) and all(name and len(name) <= 40 for name in names)


def _is_quoted(header: str, separator: str) -> bool:
    """Say whether all names of a header are in quotes, or one of them has a separator in its quotes."""
    fields = header.split(separator)
    if all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields):
        return True
    try:
        return len(next(csv.reader([header], delimiter=separator, strict=True), [])) < len(fields)
    except csv.Error:
        return False


def names_of(fields: Sequence[str], where: str, layout: Layout) -> list[str]:
    """Name the columns: by the header, or by their numbers where there is none or a name is empty.

    Raises:
        ValueError: a name occurs twice, or there are too many.
    """
    if len(fields) > MOST_COLUMNS:
        raise ValueError(f"{where} has {len(fields):,} columns; a table has {MOST_COLUMNS:,} at most")
    if layout.header == "none":
        return [str(number) for number in range(1, len(fields) + 1)]
    names = [field.strip().removeprefix("\ufeff") for field in fields]
    if not any(names):
        raise ValueError(f"{where}: the first line that is not empty was taken as the header, and names no column")
    if double := next((name for name, count in Counter(names).items() if name and count > 1), None):
        raise ValueError(f"{where} has several columns {double!r}; there must be one of each name")
    return [name or f"column {number}" for number, name in enumerate(names, start=1)]


def separator_hint(columns: Sequence[str], separator: str) -> str:
    """Say which separator the only column seems to hold; empty where it holds none."""
    if len(columns) == 1 and (told := _EXCEL.fullmatch(columns[0])):
        return f"; line 1, {told[0]!r}, is for Excel alone: take it out"
    held = [NAMES[other] for other in NAMES if other != separator and len(columns) == 1 and other in columns[0]]
    return f"; the columns seem to be separated by {held[0]}: save it as .csv with commas, or as .tsv" if held else ""


def header_note(fields: Sequence[str], profile: ColumnProfile, layout: Layout) -> str | None:
    """Say that the header looks like a row: its values are those of rows, or one has as many words as a sentence."""
    sentence = any(len(field.split()) >= _SENTENCE for field in fields)
    if layout.header == "none" or not (sentence or profile.fits(fields) or profile.has_any(fields)):
        return None
    shown = ", ".join(repr(field.strip()[:40]) for field in fields[:4])
    return (
        f"line 1 was taken as the header ({shown}), and looks like a row; if it is one,"
        f" {layout.advice('header', 'none')}, which numbers the columns from 1"
    )


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
            problems.add(number, "no JSON", f" is not valid JSON: {error}", _LISTED if listed else "")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            said = ' is not an object with columns, such as {"text": ...}'
            problems.add(number, "no object", said, _LISTED if isinstance(row, list) else "")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        double = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {double!r} is there twice")
    return row


SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")

_HEAD = 20
"""Lines by which the dialect is chosen."""
_LONG = 10
"""Lines of a field from which on it is worth a note."""


def check_kind(suffix: str, layout: Layout) -> None:
    """Check that a file's ending says what kind of table it is, and that the layout goes with that kind.

    Raises:
        ValueError: it does not; the message has no beginning.
    """
    if suffix not in SEPARATORS and suffix not in JSON_LINES:
        kinds = ", ".join([*SEPARATORS, *JSON_LINES])
        raise ValueError(f"its name does not say what kind of table it is; it must end in {kinds}")
    if suffix in JSON_LINES:
        for name in ("quoting", "header"):
            if (value := getattr(layout, name)) != "auto":
                raise ValueError(f"{layout.option(name, value)} is for .csv and .tsv; JSON lines have no {name}")


def read_rows(lines: Lines, where: str, suffix: str, layout: Layout, check: Check | None = None) -> Rows:
    """Read a file once from end to end and check it.

    Args:
        lines: the file.
        where: what an error begins with.
        suffix: the kind of file, such as ``.csv``.
        layout: what the user says of how it is written.
        check: what else is asked of it.

    Raises:
        ValueError: a row has more or fewer fields than the header, a quote is not closed, a column or key is there
            twice, or rows seem to be joined by a quote. All rows that cannot be read are in the message.
    """
    check = check or Check()
    if suffix in JSON_LINES:
        return json_rows(lines, where, check)
    head = list(islice((line for line in lines() if line.strip("\r\n")), _HEAD))
    dialect = sniff(head, SEPARATORS[suffix], layout)
    first = _Pass(lines, where, layout, dialect, check)
    if layout.quoting != "auto":
        return first.rows()
    other = Dialect(dialect.separator, not dialect.quoting, False, dialect.notes)
    if not dialect.quoting and first.problems:
        second = _Pass(lines, where, layout, other, check, probe=True)
        if second.sound and not second.spans:
            return second.rows("fields in quotes hold tabs or line ends, so that quotes are read as in CSV")
    advice = ""
    if dialect.quoting and not first.sound:
        second = _Pass(lines, where, layout, other, check, probe=True)
        if second.sound and second.wrapped <= second.count / 10:
            advice = f"without quotes all {second.count:,} lines are rows: {layout.advice('quoting', 'none')}"
    return first.rows(advice=advice)


@final
class _Pass:
    """A file of separated values, read once in one dialect; a ``probe`` ends at the first row that cannot be read."""

    def __init__(
        self, lines: Lines, where: str, layout: Layout, dialect: Dialect, check: Check, *, probe: bool = False
    ) -> None:
        self.lines, self.where, self.layout, self.dialect = lines, where, layout, dialect
        self.problems = Problems(where)
        self.count = self.wrapped = self.edged = self.blank = 0
        self.plain = True
        self.lacking: ValueError | None = None
        self.columns: list[str] = []
        self.header: list[str] = []
        following = 1
        for record in self._records(self.problems):
            self.blank += record.line - following if self.columns else 0
            following = record.line + max(1, len(record.lines))
            if not self.columns:
                self._begin(record, check)
                if self.layout.header == "auto":
                    continue
            self._take(record, check)
            if probe and self.problems:
                break
        if self.lacking is not None:  # only now it is known whether the header looks like a row
            note = header_note(self.header, self.profile, layout)
            hints = f"{separator_hint(self.columns, dialect.separator)}{'' if note is None else f'; {note}'}"
            raise ValueError(f"{self.lacking}{hints}") from self.lacking
        self.spans = self.profile.judge(dialect.separator) if self.columns else []

    @property
    def sound(self) -> bool:
        """Whether every row can be read, and none seems to be several."""
        return not self.problems and not any(span.sure for span in self.spans)

    def _records(self, problems: Problems) -> Iterator[Record]:
        if not self.dialect.quoting:
            return unquoted(self.lines(), self.dialect.separator)
        blanks = self.dialect.skip_blanks
        return quoted(self.lines(), self.dialect.separator, problems, skip_blanks=blanks)

    def _begin(self, record: Record, check: Check) -> None:
        self.header = record.fields
        self.columns = names_of(record.fields, self.where, self.layout)
        self.plain = not any(map(breaks, self.columns))
        try:
            check.columns(self.columns)
        except ValueError as error:
            self.lacking = error
        label = self.columns.index(check.label) if check.label in self.columns else None
        self.profile = ColumnProfile(len(self.columns), label)

    def _take(self, record: Record, check: Check) -> None:
        line, fields = record.line, record.fields
        if len(fields) != len(self.columns):
            self._misfit(record)
            return
        if len(fields) > 1 and self.layout.header == "auto" and _bare(fields) == _bare(self.header):
            self.problems.add(line, "the header once more", " repeats the header", "take such lines out")
            return
        self.count += 1
        self.profile.add(record)
        if not self.dialect.quoting:
            self.wrapped += any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)
            self.edged += any(field[:1] == '"' or field[-1:] == '"' for field in fields)
        self.plain = self.plain and not any(map(breaks, fields))
        if self.lacking is None:
            check.row(line, dict(zip(self.columns, fields, strict=True)), self.problems)

    def _misfit(self, record: Record) -> None:
        counted = "the header" if self.layout.header == "auto" else "line 1"
        last = record.line + max(1, len(record.lines)) - 1
        if self.dialect.quoting:
            advice = f"a text with {self.dialect.separator!r} or a newline in it must be in quotes"
        else:
            name = NAMES[self.dialect.separator].removesuffix("s")
            advice = (
                f"a text without quotes cannot hold a {name} or a newline; if texts with them are in quotes,"
                f" {self.layout.advice('quoting', 'standard')}"
            )
        columns = "1 column" if len(record.fields) == 1 else f"{len(record.fields)} columns"
        said = f" has {columns}, and {counted} {len(self.columns)}"
        self.problems.add(last, "another number of columns", said, advice)

    def rows(self, *notes: str, advice: str = "") -> Rows:
        """Give the rows.

        Raises:
            ValueError: some cannot be read, or seem to be joined.
        """
        self.problems.check(advice)
        sure = [span for span in self.spans if span.sure]
        if sure and self.layout.quoting == "auto":
            raise ValueError(self._joined(sure, advice))
        return Rows(
            tuple(self.columns), self.count, (*self.dialect.notes, *notes, *self._notes()), self.plain, self._read
        )

    def _joined(self, spans: Sequence[Span], advice: str) -> str:
        lines = sum(span.rows for span in spans)
        ways = [advice] if advice else [f"{self.layout.advice('quoting', 'none')} where quotes are text"]
        ways.append(f"{self.layout.advice('quoting', 'standard')} if these texts do span several lines")
        return (
            f"{self.where}: a quote that opens a field and is closed some lines on joins {lines + len(spans):,} rows to"
            f" {len(spans):,}: {_listed(spans)}; {', or '.join(ways)}"
        )

    def _notes(self) -> Iterator[str]:
        if not self.columns:
            return
        first, last = self.profile.longest
        if self.profile.spans and (last - first >= _LONG or not self.profile.tells):
            longest = f"; the longest is lines {first:,} to {last:,}"
            yield f"rows with a field in quotes that spans several lines: {self.profile.spans:,}{longest}"
        if self.spans:
            said = f"rows in quotes of which further lines could be rows of their own: {_listed(self.spans)}"
            way = f"; if quotes are text here, {self.layout.advice('quoting', 'none')}"
            yield said + (way if self.layout.quoting == "auto" else "")
        if self.edged and self.layout.quoting == "auto":
            advice = f"{self.layout.advice('quoting', 'standard')} to read them as CSV"
            yield f"rows with a quote at an end of a field, which are kept as text ({advice}): {self.edged:,}"
        if self.blank:
            yield f"empty lines between rows, which are no rows: {self.blank:,}"
        if (note := header_note(self.header, self.profile, self.layout)) is not None:
            yield note

    def _read(self) -> Iterator[Row]:
        begun = self.layout.header == "none"
        for record in self._records(Problems(self.where)):
            if begun:
                yield record.line, dict(zip(self.columns, record.fields, strict=True))
            begun = True


def _listed(spans: Sequence[Span]) -> str:
    """Name the lines of the first spans."""
    shown = ", ".join(f"lines {span.first:,} to {span.last:,}" for span in spans[:5])
    return f"{shown} and {len(spans) - 5:,} more" if len(spans) > 5 else shown


def _bare(fields: Sequence[str]) -> list[str]:
    """Take blanks and byte-order marks off fields, which files that were put one behind the other have."""
    return [field.strip("\ufeff \t") for field in fields]
