"""Reader of separated values: the format is inferred, and all rows are checked before one is used."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

from seqlab.io.tables.decoding import Layout
from seqlab.io.tables.profile import ColumnProfile, Span
from seqlab.io.tables.records import JSON_LINES, SHEETS, STRUCTURED, check_width, json_rows
from seqlab.io.tables.rows import (
    Check,
    Lines,
    Problems,
    Record,
    Row,
    Rows,
    breaks,
    quoted,
    unquoted,
    without_end,
)

_SENTENCE = 5
"""Fewest words of a column's name that looks like a text."""
_EVIDENCE = 3
"""Fewest lines that may contradict the separator of the file's name."""
_IRREGULAR, _REGULAR = 0.5, 0.9
"""Shares of rows with as many fields as the first: below the one a separator is wrong, from the other on it is right.
"""
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
        unit: what is counted to name a place, ``line`` or, of a sheet, ``row``.
    """

    separator: str
    quoting: bool
    skip_blanks: bool = False
    notes: tuple[str, ...] = ()
    unit: str = "line"


def sniff(head: Sequence[str], separator: str, layout: Layout) -> Dialect:
    """Infer the dialect from the first lines of a file."""
    notes = []
    lines = [without_end(line) for line in head]
    if lines and (other := _other_separator(lines, separator)) is not None:
        told = f", not by {NAMES[separator]} as its name says" if separator else ""
        notes.append(f"columns are separated by {NAMES[other]}{told}")
        separator = other
    if not separator:
        kinds = ", ".join(KINDS)
        raise ValueError(f"neither its name nor its first lines say what separates its columns; it must end in {kinds}")
    quoting = layout.quoting == "standard" or (layout.quoting == "auto" and separator != "\t")
    if layout.quoting == "auto" and not quoting and lines and _is_quoted(lines[0], separator):
        quoting = True
        notes.append("names of the header are in quotes, so that quotes are read as in CSV")
    blanks = quoting and any(f'{separator} "' in line for line in lines[:2]) and f"{separator} " in lines[0]
    if blanks:
        notes.append("spaces after separators are skipped")
    return Dialect(separator, quoting, blanks, tuple(notes))


def _other_separator(lines: Sequence[str], separator: str) -> str | None:
    """Return another separator that splits most of the first lines alike, if the expected one does not."""
    if not separator or (separator in lines[0] and len(lines) >= _EVIDENCE):
        is_prose = separator == "," and all(line.count(",") == line.count(", ") for line in lines)
        if separator and not is_prose and _regularity(lines, separator) >= _IRREGULAR:
            return None
        shares = {
            other: _regularity(lines, other) for other in ("\t", ";", "|", ",") if other != separator or not is_prose
        }
        best = max(shares, key=lambda other: shares[other])
        return best if shares[best] >= _REGULAR and best != separator else None
    if separator in lines[0]:
        return None
    found = {}
    for other in NAMES:
        header = next(iter(_parse(lines[:1], other)), [])
        if other == separator or len(header) < 2 or not _names(header):
            continue
        if len(lines) < _EVIDENCE and not _is_quoted(lines[0], other):
            continue
        if _regularity(lines, other) >= _IRREGULAR:
            found[other] = len(header)
    return max(found, key=lambda other: found[other], default=None)


def _regularity(lines: Sequence[str], separator: str) -> float:
    """Return the share of the rows after the first with as many fields as the first; 0 if that has one."""
    each = [fields for line in lines for fields in _parse([line], separator)]
    joined = _parse(lines, separator)  # texts of several lines
    bare = [line.split(separator) for line in lines]
    return max(map(_same_size, (each, joined, bare)))


def _parse(lines: Sequence[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader([f"{line}\n" for line in lines], delimiter=separator))
    except csv.Error:  # a field is longer than the reader's limit
        return []


def _same_size(rows: Sequence[Sequence[str]]) -> float:
    if not rows or len(rows[0]) < 2:
        return 0.0
    return sum(len(row) == len(rows[0]) for row in rows[1:]) / (len(rows) - 1) if len(rows) > 1 else 1.0


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
    check_width(len(fields), where)
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


def header_note(fields: Sequence[str], profile: ColumnProfile, layout: Layout, unit: str = "line") -> str | None:
    """Return a note if the header looks like a row: its values occur in rows, or one is as long as a sentence."""
    sentence = any(len(field.split()) >= _SENTENCE for field in fields)
    if layout.header == "none" or not (sentence or profile.fits(fields) or profile.has_any(fields)):
        return None
    return (
        f"{unit} 1 was taken as the header ({_shown(fields)}), and looks like a row; if it is one,"
        f" {layout.advice('header', 'none')}, which numbers the columns from 1"
    )


def _shown(fields: Sequence[str]) -> str:
    return ", ".join(repr(field.strip()[:40]) for field in fields[:4])


SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
UNNAMED = (".txt", ".data", ".dat", "")
"""Endings that do not say what separates the columns, as many public files have."""
KINDS = (*SEPARATORS, *JSON_LINES, *STRUCTURED)

_HEAD = 20
"""Lines from which the dialect is inferred."""
_LONG = 10
"""Fewest lines of a field that is noted."""


def check_kind(suffix: str, layout: Layout) -> None:
    """Check that a file's ending names a kind of table, and that the layout is for that kind."""
    if suffix not in KINDS and suffix not in UNNAMED:
        old = "; save it as .xlsx" if suffix == ".xls" else ""
        raise ValueError(
            f"its name does not say what kind of table it is; it must end in {', '.join(KINDS)}, or .txt{old}"
        )
    only = ["quoting", "header"] if suffix in (*JSON_LINES, *STRUCTURED) else []
    if suffix in SHEETS:
        only = ["quoting"]
    for name in only:
        if (value := getattr(layout, name)) != "auto":
            kind = "JSON lines have" if suffix in JSON_LINES else f"{suffix} has"
            raise ValueError(f"{layout.option(name, value)} is for .csv and .tsv; {kind} no {name}")
    if suffix in STRUCTURED and not layout.is_utf8:
        raise ValueError(f"{layout.option('encoding', layout.encoding)} is for text; {suffix} has its own encoding")


def read_rows(lines: Lines, where: str, suffix: str, layout: Layout, check: Check | None = None) -> Rows:
    """Read and check a file of lines once from end to end.

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
    try:
        dialect = sniff(head, SEPARATORS.get(suffix, ""), layout)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error

    def passed(dialect: Dialect, *, probe: bool = False) -> _Pass:
        return _Pass(lambda problems: _split(lines(), dialect, problems), where, layout, dialect, check, probe=probe)

    first = passed(dialect)
    if layout.quoting != "auto":
        return first.rows()
    other = Dialect(dialect.separator, not dialect.quoting, False, dialect.notes)
    if not dialect.quoting and first.problems:
        second = passed(other, probe=True)
        if second.sound and not second.spans:
            return second.rows("fields in quotes hold tabs or line ends, so that quotes are read as in CSV")
    advice = ""
    if dialect.quoting and not first.sound:
        second = passed(other, probe=True)
        if second.sound and second.wrapped <= second.count / 10:
            advice = f"without quotes all {second.count:,} lines are rows: {layout.advice('quoting', 'none')}"
    return first.rows(advice=advice)


def read_sheet(
    records: Callable[[], Iterator[Record]], where: str, notes: Sequence[str], layout: Layout, check: Check | None
) -> Rows:
    """Check the rows of a sheet, whose fields are texts, as those of a file of lines."""
    dialect = Dialect("\t", True, False, tuple(notes), "row")
    return _Pass(lambda _: records(), where, layout, dialect, check or Check()).rows()


def _split(lines: Iterable[str], dialect: Dialect, problems: Problems) -> Iterator[Record]:
    if not dialect.quoting:
        return unquoted(lines, dialect.separator)
    return quoted(lines, dialect.separator, problems, skip_blanks=dialect.skip_blanks)


@final
class _Pass:
    """One pass over records in one dialect; a ``probe`` stops at the first bad row."""

    def __init__(
        self,
        records: Callable[[Problems], Iterator[Record]],
        where: str,
        layout: Layout,
        dialect: Dialect,
        check: Check,
        *,
        probe: bool = False,
    ) -> None:
        self.records, self.where, self.layout, self.dialect = records, where, layout, dialect
        self.problems = Problems(where, dialect.unit)
        self.count = self.wrapped = self.edged = self.blank = 0
        self.plain = True
        self.missing: ValueError | None = None
        self.columns: list[str] = []
        self.header: list[str] = []
        following = 1
        for record in records(self.problems):
            self.blank += record.line - following if self.columns else 0
            following = record.line + max(1, len(record.lines))
            if not self.columns:
                self._set_header(record, check)
                if self.layout.header == "auto":
                    continue
            self._add(record, check)
            if probe and self.problems:
                break
        if self.missing is not None and not probe:  # the header can be compared with all rows now
            raise ValueError(f"{self.missing}{self._missing_hints(check)}") from self.missing
        self.spans = self.profile.joined_rows(dialect.separator) if self.columns else []

    def _missing_hints(self, check: Check) -> str:
        """Return what is likely where a needed column is missing."""
        hint = separator_hint(self.columns, self.dialect.separator)
        likely = self.profile.guess()
        note = header_note(self.header, self.profile, self.layout, self.dialect.unit)
        if note is not None:  # the names are values
            proposal = "" if likely is None else check.proposal(*(str(column + 1) for column in likely))
            return f"{hint}; {note}{proposal}"
        hint += "" if likely is None else check.proposal(*(self.columns[column] for column in likely))
        if self.layout.header == "none":
            return hint
        way = self.layout.advice("header", "none")
        return f"{hint}; {self.dialect.unit} 1 was taken as the header; if it is a row, {way}"

    @property
    def sound(self) -> bool:
        """Whether all rows are good and none seems to be several."""
        return self.missing is None and not self.problems and not any(span.sure for span in self.spans)

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
        counted = "the header" if self.layout.header == "auto" else f"{self.dialect.unit} 1"
        last = record.line + max(1, len(record.lines)) - 1
        if self.dialect.unit == "row":
            advice = "cells beyond the header's columns must be empty"
        elif self.dialect.quoting:
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
        if (hint := header_note(self.header, self.profile, self.layout, self.dialect.unit)) is not None:
            yield hint

    def _read(self) -> Iterator[Row]:
        begun = self.layout.header == "none"
        for record in self.records(Problems(self.where)):
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
