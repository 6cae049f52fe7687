"""Reader of CSV, TSV and JSON lines: the format is inferred, and all rows are checked before one is used."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

from seqlab.io.safe_io import check_json, unique_keys
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
"""Fewest words of a column's name that looks like a text."""
_EVIDENCE = 3
"""Fewest lines that may contradict the separator of the file's name."""
_EXCEL = re.compile(r"sep=(.?)", re.IGNORECASE)
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


@final
@dataclass(frozen=True)
class Dialect:
    """Inferred format of a table.

    Attributes:
        separator: between the fields.
        quoting: whether fields may be in quotes.
        skip_blanks: whether to skip spaces after a separator, as in ``"text", "label"``.
        notes: for the user.
    """

    separator: str
    quoting: bool
    skip_blanks: bool = False
    notes: tuple[str, ...] = ()


def sniff(head: Sequence[str], separator: str, layout: Layout) -> Dialect:
    """Infer the dialect from the first lines of a file."""
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
        notes.append("spaces after separators are skipped")
    return Dialect(separator, quoting, blanks, tuple(notes))


def _other_separator(lines: Sequence[str], separator: str) -> str | None:
    """Return another separator that splits most of the first lines alike, if the header lacks the expected one."""
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
    """Return whether fields can be the names of columns: short and distinct."""
    names = [field.strip().strip('"') for field in fields]
    return len(set(names)) == len(names) and all(name and len(name) <= 40 for name in names)


def _is_quoted(header: str, separator: str) -> bool:
    """Return whether all names of a header are in quotes, or one has a separator within its quotes."""
    fields = header.split(separator)
    if all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields):
        return True
    try:
        return len(next(csv.reader([header], delimiter=separator, strict=True), [])) < len(fields)
    except csv.Error:
        return False


def names_of(fields: Sequence[str], where: str, layout: Layout) -> list[str]:
    """Return the names of the columns: from the header, or their numbers where there is none or a name is empty."""
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
    """Return advice where the only column seems to contain another separator; else an empty string."""
    if len(columns) == 1 and (told := _EXCEL.fullmatch(columns[0])):
        return f"; line 1, {told[0]!r}, is for Excel: remove it"
    held = [NAMES[other] for other in NAMES if other != separator and len(columns) == 1 and other in columns[0]]
    return f"; the columns seem to be separated by {held[0]}: save it as .csv with commas, or as .tsv" if held else ""


def header_note(fields: Sequence[str], profile: ColumnProfile, layout: Layout) -> str | None:
    """Return a note if the header looks like a row: its values occur in rows, or one is as long as a sentence."""
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
    """Read and check a file of JSON objects once from end to end."""
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


SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")

_HEAD = 20
"""Lines from which the dialect is inferred."""
_LONG = 10
"""Fewest lines of a field that is noted."""


def check_kind(suffix: str, layout: Layout) -> None:
    """Check that a file's ending names a kind of table, and that the layout is for that kind."""
    if suffix not in SEPARATORS and suffix not in JSON_LINES:
        kinds = ", ".join([*SEPARATORS, *JSON_LINES])
        raise ValueError(f"its name does not say what kind of table it is; it must end in {kinds}")
    if suffix in JSON_LINES:
        for name in ("quoting", "header"):
            if (value := getattr(layout, name)) != "auto":
                raise ValueError(f"{layout.option(name, value)} is for .csv and .tsv; JSON lines have no {name}")


def read_rows(lines: Lines, where: str, suffix: str, layout: Layout, check: Check | None = None) -> Rows:
    """Read and check a file once from end to end.

    Args:
        lines: of the file.
        where: begins an error's message.
        suffix: the kind of file, such as ``.csv``.
        layout: set by the user.
        check: further requirements.

    Raises:
        ValueError: a row has more or fewer fields than the header, a quote is not closed, a column or key occurs twice,
            or rows seem to be joined by a quote. The message lists all bad rows.
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
    """One pass over a file of separated values in one dialect; a ``probe`` stops at the first bad row."""

    def __init__(
        self, lines: Lines, where: str, layout: Layout, dialect: Dialect, check: Check, *, probe: bool = False
    ) -> None:
        self.lines, self.where, self.layout, self.dialect = lines, where, layout, dialect
        self.problems = Problems(where)
        self.count = self.wrapped = self.edged = self.blank = 0
        self.plain = True
        self.missing: ValueError | None = None
        self.columns: list[str] = []
        self.header: list[str] = []
        following = 1
        for record in self._records(self.problems):
            self.blank += record.line - following if self.columns else 0
            following = record.line + max(1, len(record.lines))
            if not self.columns:
                self._set_header(record, check)
                if self.layout.header == "auto":
                    continue
            self._add(record, check)
            if probe and self.problems:
                break
        if self.missing is not None:  # the header can be compared with all rows now
            note = header_note(self.header, self.profile, layout)
            hints = f"{separator_hint(self.columns, dialect.separator)}{'' if note is None else f'; {note}'}"
            raise ValueError(f"{self.missing}{hints}") from self.missing
        self.spans = self.profile.joined_rows(dialect.separator) if self.columns else []

    @property
    def sound(self) -> bool:
        """Whether all rows are good and none seems to be several."""
        return not self.problems and not any(span.sure for span in self.spans)

    def _records(self, problems: Problems) -> Iterator[Record]:
        if not self.dialect.quoting:
            return unquoted(self.lines(), self.dialect.separator)
        blanks = self.dialect.skip_blanks
        return quoted(self.lines(), self.dialect.separator, problems, skip_blanks=blanks)

    def _set_header(self, record: Record, check: Check) -> None:
        self.header = record.fields
        self.columns = names_of(record.fields, self.where, self.layout)
        self.plain = not any(map(breaks, self.columns))
        try:
            check.columns(self.columns)
        except ValueError as error:
            self.missing = error
        label = self.columns.index(check.label) if check.label in self.columns else None
        self.profile = ColumnProfile(len(self.columns), label)

    def _add(self, record: Record, check: Check) -> None:
        line, fields = record.line, record.fields
        if len(fields) != len(self.columns):
            self._misfit(record)
            return
        if len(fields) > 1 and self.layout.header == "auto" and _bare(fields) == _bare(self.header):
            self.problems.add(line, "the header once more", " repeats the header", "remove such lines")
            return
        self.count += 1
        self.profile.add(record)
        if not self.dialect.quoting:
            self.wrapped += any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)
            self.edged += any(field[:1] == '"' or field[-1:] == '"' for field in fields)
        self.plain = self.plain and not any(map(breaks, fields))
        if self.missing is None:
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
        text = f" has {columns}, and {counted} {len(self.columns)}"
        self.problems.add(last, "another number of columns", text, advice)

    def rows(self, *notes: str, advice: str = "") -> Rows:
        """Return the rows."""
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
        if self.profile.spans and (last - first >= _LONG or not self.profile.telling_columns):
            longest = f"; the longest is lines {first:,} to {last:,}"
            yield f"rows with a field in quotes that spans several lines: {self.profile.spans:,}{longest}"
        if self.spans:
            way = f"; if quotes are text here, {self.layout.advice('quoting', 'none')}"
            note = f"rows in quotes of which further lines could be rows of their own: {_listed(self.spans)}"
            yield note + (way if self.layout.quoting == "auto" else "")
        if self.edged and self.layout.quoting == "auto":
            advice = f"{self.layout.advice('quoting', 'standard')} to read them as CSV"
            yield f"rows with a quote at an end of a field, which are kept as text ({advice}): {self.edged:,}"
        if self.blank:
            yield f"empty lines between rows, which are skipped: {self.blank:,}"
        if (hint := header_note(self.header, self.profile, self.layout)) is not None:
            yield hint

    def _read(self) -> Iterator[Row]:
        begun = self.layout.header == "none"
        for record in self._records(Problems(self.where)):
            if begun:
                yield record.line, dict(zip(self.columns, record.fields, strict=True))
            begun = True


def _listed(spans: Sequence[Span]) -> str:
    """Return the lines of the first spans."""
    shown = ", ".join(f"lines {span.first:,} to {span.last:,}" for span in spans[:5])
    return f"{shown} and {len(spans) - 5:,} more" if len(spans) > 5 else shown


def _bare(fields: Sequence[str]) -> list[str]:
    """Return fields without spaces and byte-order marks, which concatenated files have."""
    return [field.strip("\ufeff \t") for field in fields]
