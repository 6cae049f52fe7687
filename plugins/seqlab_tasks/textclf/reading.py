"""Tables and folders of labelled texts."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, final

from seqlab.io.tables import (
    Check,
    Layout,
    Problems,
    check_kind,
    decode,
    label_of,
    missing_column,
    read_rows,
    split_lines,
)
from seqlab_tasks.classification import read_file
from seqlab_tasks.splitting import SPLITS, Documents

_PLAIN = Layout()
_SPLIT_FOLDERS = {name: name for name in SPLITS} | dict.fromkeys(("validation", "val", "dev"), "valid")
_HINT = "Set task.text_column and task.label_column"


@final
class _Columns:
    """Checks of the text column and the label column."""

    def __init__(self, text_column: str, label_column: str, where: str, layout: Layout) -> None:
        self.text_column, self.label_column, self.where, self.layout = text_column, label_column, where, layout

    def check(self) -> Check:
        return Check(self._columns, self._row, self.label_column)

    def _columns(self, columns: Sequence[str]) -> None:
        for name in (self.text_column, self.label_column):
            if name not in columns:
                raise ValueError(f"{self.where}{self._lacks(name, columns)}")

    def _lacks(self, name: str, columns: Sequence[str]) -> str:
        if self.layout.header == "none":
            numbers = f"numbers from 1 to {len(columns)}"
            return f" has no column {name!r} with task.header=none; {_HINT.lower()} to {numbers}"
        return f" {missing_column(name, columns)}. {_HINT}"

    def _row(self, line: int, row: Mapping[str, Any], problems: Problems) -> None:
        for name in (self.text_column, self.label_column):
            if name not in row:
                columns = ", ".join(row) or "none"
                problems.add(line, f"no column {name!r}", f" has no column {name!r}; columns: {columns}", _HINT)
                return
        try:
            self.text(row)
        except ValueError as error:
            problems.add(line, f"no text in {self.text_column}", f": {self.text_column} {error}")
        try:
            self.label(row)
        except ValueError as error:
            problems.add(line, f"no label in {self.label_column}", f": {self.label_column} {error}")

    def text(self, row: Mapping[str, Any]) -> str:
        value = row[self.text_column]
        if not isinstance(value, str):
            raise ValueError(f"must be a text, got {json.dumps(value)[:40]}")
        return self._whole(value)

    def label(self, row: Mapping[str, Any]) -> str:
        value = row[self.label_column]
        return label_of(self._whole(value) if isinstance(value, str) else value)

    def _whole(self, value: str) -> str:
        """Check for lone surrogates, which only JSON can contain."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            if self.layout.errors == "strict":
                raise ValueError(
                    f"has the lone surrogate {value[error.start]!a}; repair it, or set task.encoding_errors=replace"
                ) from error
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value


def read_table(
    file: Traversable, where: str, text_column: str = "text", label_column: str = "label", layout: Layout = _PLAIN
) -> Documents:
    """Read a CSV or TSV file, or JSON lines.

    Only a newline ends a line; U+2028, U+0085, similar characters and newlines within quotes stay in the text.

    Args:
        file: ``.csv``, ``.tsv`` or ``.jsonl``.
        where: config key and value, the prefix of messages.
        text_column: name of the text column.
        label_column: name of the label column.
        layout: separators, quotes, header and encoding.

    Raises:
        ValueError: the file is empty, lacks a column, or has invalid rows; the message lists all of them.
        OSError: the file cannot be read.
    """
    suffix = Path(file.name).suffix.lower()
    try:
        check_kind(suffix, layout)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    text, facts = decode(read_file(file, where), where, layout)
    if not text.strip():
        raise ValueError(f"{where} is empty")
    columns = _Columns(text_column, label_column, where, layout)
    table = read_rows(lambda: split_lines(text, facts.newline), where, suffix, layout, columns.check())
    documents = Documents(notes=[*facts.notes, *table.notes])
    for _, row in table.read():
        documents.texts.append(columns.text(row))
        documents.labels.append(columns.label(row))
    if not documents.texts:
        raise ValueError(f"{where} has a header, but no rows")
    return documents


def read_folder(folder: Path, where: str, layout: Layout = _PLAIN) -> Documents:
    """Read a folder for each class, or ``train``, ``valid`` and ``test`` with such folders in them.

    Each ``.txt`` file is one text, newlines included; hidden and other files are ignored.

    Raises:
        ValueError: there are no class folders, or a file is not UTF-8.
        OSError: a file cannot be read.
    """
    parts = _folders(folder)
    documents = Documents()
    if not any(_SPLIT_FOLDERS.get(part.name.lower()) == "train" and _folders(part) for part in parts):
        _read_classes(folder, where, layout, documents)
        return documents
    documents.splits = []
    for part in parts:
        if (split := _SPLIT_FOLDERS.get(part.name.lower())) is None:
            known = ", ".join(SPLITS)
            raise ValueError(f"{where}: folders beside train must be one of {known}, got {part.name}; remove it")
        if split in documents.splits:
            raise ValueError(f"{where}: there are several folders for {split}, such as {part.name}; keep one")
        _read_classes(part, f"{where}/{part.name}", layout, documents)
        documents.splits += [split] * (len(documents.texts) - len(documents.splits))
    return documents


def _read_classes(folder: Path, where: str, layout: Layout, documents: Documents) -> None:
    classes = _folders(folder)
    if not classes:
        raise ValueError(f"{where} has no folders; it must have one of .txt files for each class")
    for each in classes:
        files = sorted(
            file for file in each.iterdir() if file.suffix.lower() == ".txt" and file.name[0] != "." and file.is_file()
        )
        if not files:
            raise ValueError(f"{where}: the folder {each.name} has no .txt file; add texts, or remove it")
        label = label_of(each.name)
        for file in files:
            name = f"{where}: {each.name}/{file.name}"
            text, facts = decode(read_file(file, name), name, layout)
            documents.texts.append(text)
            documents.labels.append(label)
            documents.notes += (f"{each.name}/{file.name}: {note}" for note in facts.notes)


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")
