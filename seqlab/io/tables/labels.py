"""What a label is, the same for training, evaluation and prediction; and labels that are easily confused."""

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
    """Give the label that a value stands for.

    A text is itself, in NFC and without white space around it. A number, ``true`` and ``false`` of JSON are as JSON
    writes them, so that ``1`` and ``"1"`` are one label, and ``1`` and ``1.0`` are two.

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
    """Say which labels differ only in what a reader cannot see or would not mean, and which may say "missing"."""
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
    """Find a known label that differs only in what :func:`label_notes` tells of."""
    folded = _folded(label)
    return next((each for each in known if each != label and _folded(each) == folded), None) if folded else None


def no_column(name: str, columns: Sequence[str]) -> str:
    """Say that a table has no such column, which it has, and which of them looks the same."""
    near = similar_to(name, columns)
    alike = "" if near is None else f" ({near!r} differs in capitals, blanks or invisible characters)"
    there = ", ".join(each if each.isprintable() else repr(each) for each in columns)
    return f"has no column {name!r}; there are {there}{alike}"


def _folded(label: str) -> str:
    """Give what labels share that are easily confused."""
    seen = "".join(letter for letter in normalise_unicode("NFKC", label) if unicodedata.category(letter)[0] != "C")
    plain = " ".join(seen.split()).casefold().strip("\"'\u201c\u201d\u2018\u2019 ")
    return repr(float(plain)) if _NUMBER.fullmatch(plain) else plain
