"""The first lines of a table: its separator, blanks behind it, and whether there is a header."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from seqlab.tables.decoding import Layout
from seqlab.tables.records import without_end
from seqlab.tables.swallowed import Profile

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


def header_note(fields: Sequence[str], profile: Profile, layout: Layout) -> str | None:
    """Say that the header looks like a row: its values are those of rows, or one has as many words as a sentence."""
    sentence = any(len(field.split()) >= _SENTENCE for field in fields)
    if layout.header == "none" or not (sentence or profile.fits(fields) or profile.has_any(fields)):
        return None
    shown = ", ".join(repr(field.strip()[:40]) for field in fields[:4])
    return (
        f"line 1 was taken as the header ({shown}), and looks like a row; if it is one,"
        f" {layout.advice('header', 'none')}, which numbers the columns from 1"
    )
