"""Columns of a table that are read: texts, labels, splits and groups, and how to handle missing values."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from seqlab.io.formatting import quote_for_hydra
from seqlab.io.tables.decoding import Layout
from seqlab.io.tables.rows import Check, Problems, label_of, missing_column

_PLAIN = Layout()
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of splits in columns and folders, in lower case."""


def column_names(value: str | int | Sequence[str | int]) -> tuple[str, ...]:
    """Return the names of one or several columns; a number is a name, too."""
    return (str(value),) if isinstance(value, str | int) else tuple(str(each) for each in value)


def is_missing(value: Any) -> bool:
    """Return whether a value is null, NaN or blank."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


@final
@dataclass(frozen=True)
class Columns:
    """Columns that are read of each row.

    Attributes:
        where: the file, for messages.
        text: the columns of the text; the values of several that are not blank are joined by line ends.
        label: the column of the label, if there is one.
        split: the column with the name of the split, if there is one.
        group: the column that names the group of a row, if there is one.
        on_missing: ``error`` refuses a text that is null and a label that is missing; ``drop`` skips rows without any
            text or without a label; ``empty`` reads null as an empty text.
        needs_label: whether each row must have a label.
        layout: of the file.
        options: how the user names the columns of texts and labels.
    """

    where: str
    text: tuple[str, ...] = ("text",)
    label: str | None = "label"
    split: str | None = None
    group: str | None = None
    on_missing: Literal["error", "drop", "empty"] = "error"
    needs_label: bool = True
    layout: Layout = _PLAIN
    options: tuple[str, str] = ("task.text_column", "task.label_column")

    def check(self) -> Check:
        """Return the requirements on a table."""
        return Check(self._check_columns, self._check_row, self.label, self._proposal)

    @property
    def _names(self) -> list[str]:
        return [*self.text, *(name for name in (self.label, self.split, self.group) if name is not None)]

    @property
    def _hint(self) -> str:
        options = " and ".join(self.options if self.label is not None else self.options[:1])
        return f"{'Add' if self.layout.command_line else 'Set'} {options}"

    def _check_columns(self, columns: Sequence[str]) -> None:
        for name in self._names:
            if name not in columns:
                if self.layout.header == "none":
                    numbers = f"numbers from 1 to {len(columns)}"
                    told = self.layout.option("header", "none")
                    raise ValueError(f"{self.where} has no column {name!r} with {told}; use {numbers}")
                raise ValueError(f"{self.where} {missing_column(name, columns)}. {self._hint}")

    def _proposal(self, text: str, label: str) -> str:
        pairs = zip(self.options, (text, label) if self.label is not None else (text,), strict=False)
        if self.layout.command_line:
            return f", such as {' '.join(f'{option} {shlex.quote(value)}' for option, value in pairs)}"
        overrides = (f"{option}={value if value.isdigit() else quote_for_hydra(value)}" for option, value in pairs)
        return f", such as {shlex.join(overrides)}"

    def _check_row(self, line: int, row: Mapping[str, Any], problems: Problems) -> None:
        if self.drops(row):
            return
        for name in self._names:
            if name not in row and (name != self.label or self.needs_label):
                columns = ", ".join(row) or "none"
                problems.add(line, f"no column {name!r}", f" has no column {name!r}; columns: {columns}", self._hint)
                return
        checks: tuple[tuple[str | None, Callable[[Mapping[str, Any]], Any], str], ...] = (
            (", ".join(self.text) or None, self.text_of, "no text"),
            (self.label, self.label_of, "no label"),
            (self.split, self.split_of, "no split"),
        )
        for column, read, reason in checks:
            if column is None:
                continue
            try:
                read(row)
            except ValueError as error:
                problems.add(line, f"{reason} in {column}", f": {column} {error}", self._advice(row, reason))

    def _advice(self, row: Mapping[str, Any], reason: str) -> str:
        if self.layout.command_line or self.on_missing == "drop":
            return ""
        absent = reason == "no label" and is_missing(row.get(self.label or ""))
        absent |= reason == "no text" and any(is_missing(row.get(name)) for name in self.text)
        return "set task.on_missing=drop to skip rows without a text or a label" if absent else ""

    def drops(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is skipped because it lacks a text or a label."""
        if self.on_missing != "drop":
            return False
        lacks_text = all(is_missing(row.get(name)) for name in self.text)
        return lacks_text or (self.label is not None and is_missing(row.get(self.label)))

    def text_of(self, row: Mapping[str, Any]) -> str:
        """Return the text of a row.

        Raises:
            ValueError: it is no text.
        """
        parts = []
        for name in self.text:
            value = row.get(name)
            if self.on_missing != "error" and is_missing(value):
                value = value if isinstance(value, str) else ""
            if not isinstance(value, str):
                raise ValueError(f"must be a text, got {json.dumps(value)[:40]}")
            parts.append(self._whole(value))
        return parts[0] if len(parts) == 1 else "\n".join(part for part in parts if part.strip())

    def label_of(self, row: Mapping[str, Any]) -> str:
        """Return the label of a row, an empty one if it may be missing.

        Raises:
            ValueError: it has none.
        """
        assert self.label is not None
        value = row.get(self.label)
        if not self.needs_label and (value is None or (isinstance(value, str) and not value.strip())):
            return ""
        return label_of(self._whole(value) if isinstance(value, str) else value)

    def split_of(self, row: Mapping[str, Any]) -> str | None:
        """Return the split of a row, ``None`` without a column of splits.

        Raises:
            ValueError: its name is unknown.
        """
        if self.split is None:
            return None
        value = row[self.split]
        if (split := SPLIT_NAMES.get(str(value).strip().lower())) is None:
            raise ValueError(f"must be train, valid or test, got {json.dumps(value)[:40]}")
        return split

    def group_of(self, row: Mapping[str, Any]) -> str | None:
        """Return the name of a row's group, ``None`` where it is missing."""
        value = None if self.group is None else row[self.group]
        return None if is_missing(value) else value.strip() if isinstance(value, str) else json.dumps(value)

    def _whole(self, value: str) -> str:
        """Check for lone surrogates, which only JSON can contain."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            if self.layout.errors == "strict":
                raise ValueError(
                    f"has the lone surrogate {value[error.start]!a}; repair it,"
                    f" or {self.layout.advice('encoding_errors', 'replace')}"
                ) from error
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
