"""Labels, and checks of a table's rows."""

import csv
import json
import math
import re
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
        several = "; a text has one label: choose one, or join them" if isinstance(value, list) else ""
        raise ValueError(f"must be a string, got {json.dumps(value)[:40]}{several}")
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
    several = [label for label in labels if _is_several(label, labels)]
    if several:
        shown = ", ".join(map(repr, several[:_SHOWN_LABELS]))
        notes.append(f"labels that seem to be several ({len(several):,}): {shown}; each combination is a class")
    if missing := [label for label in labels if label.casefold() in _MISSING]:
        notes.append(f"labels that may stand for a missing value: {', '.join(map(repr, missing))}; each is a class")
    return notes


def _is_several(label: str, labels: Sequence[str]) -> bool:
    """Return whether all parts of a label are labels, too."""
    parts = ([part.strip() for part in label.split(separator)] for separator in "|;,")
    return any(len(each) > 1 and set(each) <= set(labels) for each in parts)


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
    """Problems of the rows of a file: the first 20 with their lines, and the number of all by reason.

    Args:
        where: the file, for messages.
        unit: what the numbers count: ``line``, or ``row`` of a file without lines.
    """

    def __init__(self, where: str, unit: str = "line") -> None:
        self.where, self.unit = where, unit
        self.first: list[str] = []
        self.counts: Counter[str] = Counter()
        self.advice: dict[str, None] = {}

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, line: int, reason: str, text: str, advice: str = "") -> None:
        """Add the problem of a row."""
        self.counts[reason] += 1
        if len(self.first) < _SHOWN_ROWS:
            self.first.append(f"{self.unit} {line:,}{text}")
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
        proposal: given the likeliest columns of texts and labels, returns how to name them.
    """

    columns: Callable[[Sequence[str]], None] = lambda _: None
    row: Callable[[int, Mapping[str, Any], Problems], None] = lambda *_: None
    label: str | None = None
    proposal: Callable[[str, str], str] = lambda *_: ""


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
