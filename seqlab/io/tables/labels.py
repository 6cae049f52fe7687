"""Labels: one conversion for training, evaluation and prediction; and labels that are easily confused."""

import json
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from seqlab.io.safe_io import normalise_unicode

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII)
_MISSING = frozenset({"nan", "null", "none", "n/a", "na", "#n/a", "<na>", "nil", "nat"})
_SHOWN = 5


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
        more = f", and {len(alike) - _SHOWN:,} more" if len(alike) > _SHOWN else ""
        notes.append(
            "labels that differ only in capitals, blanks, invisible characters, quotes or how a number is written:"
            f" {', '.join(alike[:_SHOWN])}{more}; each is a class of its own"
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
