"""Files of names, one a line -> clean, unique names."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, final

from seqlab.io.safe_io import normalise_unicode, read_not_sparse
from seqlab.io.tables import label_of

JUNK = frozenset({"to the first page"})
"""Rows that a web page's navigation left in the PyTorch tutorial's files."""

LONGEST = 1_000
"""Letters of a row: a batch is as long as its longest name."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_INVISIBLE = " \u200b\u2060\ufeff"  # of no width, so that str.split() leaves them
_STRAY = re.compile(r"(?:(?<![\s\d,:;])[\s\d,:;]++|/\w)$")


@final
@dataclass
class NameList:
    """Names and the classes they belong to.

    Attributes:
        classes: sorted by name.
        names: in NFC, each once a class.
        labels: index of each name's class.
        cleaning: what happened on the way here, for a reader.
    """

    classes: list[str]
    names: list[str]
    labels: list[int]
    cleaning: list[str] = field(default_factory=list)


def read_names(files: Sequence[Traversable], where: str, errors: Literal["strict", "replace"] = "strict") -> NameList:
    """Read a file of each class, and clean what is in it.

    Names are put into NFC and stripped of blanks; a row is dropped if it is empty, navigation of a web page
    (:data:`JUNK`), without any letter, or its class has that name already. Digits, commas, colons and semicolons at a
    name's end, and a slash with one character there, are cut off. All else stays: every script, accents,
    apostrophes, hyphens, spaces, full stops.

    Args:
        files: ``<Class>.txt``, one name a line, UTF-8 with or without a byte-order mark.
        where: what an error begins with: the config key and its value.
        errors: what to do with bytes that are not UTF-8.

    Raises:
        ValueError: a file is not UTF-8, holds no names, or all are of one class.
        OSError: a file cannot be read.
    """
    counts: Counter[str] = Counter()
    mended: list[str] = []
    by_class: dict[str, set[str]] = {}
    for file in files:
        label = _label(file, where)
        rows = [row for row in _LINE_END.split(_decode(file, where, errors)) if row.strip()]
        if (longest := max(map(len, rows), default=0)) > LONGEST:
            raise ValueError(f"{where}: {file.name} has a row of {longest:,} letters; a name has {LONGEST:,} at most")
        names = [name for row in rows if (name := _counted(row, counts, mended))]
        if not names:
            raise ValueError(f"{where}: {file.name} holds no names; write one name a line into it, or take it away")
        counts["rows"] += len(rows)
        unique = by_class.setdefault(label, set())
        counts["duplicates"] += len(names) - len(set(names) - unique)
        unique.update(names)
    classes = sorted(by_class)
    if len(classes) < 2:
        raise ValueError(f"{where}: all names are of one class, {classes[0]}; there must be at least 2 to tell apart")
    pairs = [(name, label) for label, name_of in enumerate(classes) for name in sorted(by_class[name_of])]
    names, labels = [name for name, _ in pairs], [label for _, label in pairs]
    return NameList(classes, names, labels, _story(counts, mended, names, len(classes)))


def _label(file: Traversable, where: str) -> str:
    try:
        return label_of(file.name.rpartition(".")[0])
    except ValueError as error:
        raise ValueError(f"{where}: the label of {file.name!r}, its name before .txt, {error}") from error


def _decode(file: Traversable, where: str, errors: Literal["strict", "replace"]) -> str:
    try:
        data = read_not_sparse(file) if isinstance(file, Path) else file.read_bytes()
    except ValueError as error:
        raise ValueError(f"{where}: {file.name} cannot be read: {error}") from error
    except OSError as error:
        raise OSError(f"{where}: {file.name} cannot be read: {error.strerror}") from error
    if (zero := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise ValueError(f"{where}: {file.name}, line {line} has a zero byte, as UTF-16 has. Save the file as UTF-8")
    try:
        return data.decode("utf-8", errors).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise ValueError(
            f"{where}: {file.name}, line {line} is not UTF-8 (byte {byte:#04x})."
            " Save the file as UTF-8, or set task.encoding_errors=replace"
        ) from error


def clean(row: str) -> str:
    """Give the name in a row; empty where there is none."""
    plain = _plain(row)
    name = "" if plain.casefold() in JUNK else _STRAY.sub("", plain)
    return name if any(unicodedata.category(character)[0] == "L" for character in name) else ""


def _plain(row: str) -> str:
    return " ".join(normalise_unicode("NFC", row).split()).strip(_INVISIBLE)


def _counted(row: str, counts: Counter[str], mended: list[str]) -> str:
    name, plain = clean(row), _plain(row)
    if not name:
        counts["junk" if plain.casefold() in JUNK else "letterless"] += 1
    elif name != plain:
        mended.append(f"{plain} -> {name}")
    counts["replaced"] += "\ufffd" in name
    return name


def spelling(name: str) -> str:
    """Give what the spellings of one name share, however they treat capitals, accents, hyphens and apostrophes."""
    letters = normalise_unicode("NFKD", normalise_unicode("NFKD", name).casefold())
    return "".join(filter(_matters, letters)) or name


def _matters(character: str) -> bool:
    return not "\u0300" <= character <= "\u036f" and unicodedata.category(character)[0] not in "PZ"


def _story(counts: Counter[str], mended: Sequence[str], names: Sequence[str], classes: int) -> list[str]:
    """Tell a reader what cleaning did, in one or two lines."""
    dropped = [
        (counts["duplicates"], "that repeat a name of their class"),
        (counts["junk"], "of web page navigation"),
        (counts["letterless"], "without a letter"),
    ]
    story = f"{len(names):,} names of {classes} classes in {counts['rows']:,} rows"
    if listed := ", ".join(f"{count:,} {why}" for count, why in dropped if count):
        story += f"; rows dropped: {listed}"
    if mended:
        story += f"; {len(mended):,} cut: {', '.join(mended[:3])}{', ...' if len(mended) > 3 else ''}"
    lines = [story]
    if counts["replaced"]:
        lines.append(f"names with bytes that are not UTF-8, shown as \ufffd: {counts['replaced']:,}")
    if several := sum(count > 1 for count in Counter(names).values()):
        lines.append(f"names in several classes: {several:,}; each is in one split only")
    return lines
