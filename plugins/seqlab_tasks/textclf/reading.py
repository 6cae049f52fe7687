"""Tables and folders of texts with labels, and one clear line where they cannot be read."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, final

from seqlab import UserError
from seqlab.io.safe_io import read_not_sparse
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
from seqlab_tasks.textclf.documents import SPLITS, Documents

_PLAIN = Layout()
_SPLIT_FOLDERS = {name: name for name in SPLITS} | dict.fromkeys(("validation", "val", "dev"), "valid")
_WAY_OUT = "Set task.text_column and task.label_column"


@final
class _Wanted:
    """The columns of text and label, and what is asked of them."""

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
            return f" has no column {name!r}, as task.header=none; {_WAY_OUT.lower()} to {numbers}"
        return f" {missing_column(name, columns)}. {_WAY_OUT}"

    def _row(self, line: int, row: Mapping[str, Any], problems: Problems) -> None:
        for name in (self.text_column, self.label_column):
            if name not in row:
                there = ", ".join(row) or "none"
                problems.add(line, f"no column {name!r}", f" has no column {name!r}; there are {there}", _WAY_OUT)
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
            raise ValueError(f"must be a string, got {json.dumps(value)[:40]}")
        return self._whole(value)

    def label(self, row: Mapping[str, Any]) -> str:
        value = row[self.label_column]
        return label_of(self._whole(value) if isinstance(value, str) else value)

    def _whole(self, value: str) -> str:
        """Check for halves of characters, which only JSON can bring."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            if self.layout.errors == "strict":
                raise ValueError(
                    f"has half a character, {value[error.start]!a}. Mend it, or set task.encoding_errors=replace"
                ) from error
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value


def read_table(
    file: Traversable, where: str, text_column: str = "text", label_column: str = "label", layout: Layout = _PLAIN
) -> Documents:
    """Read a CSV or TSV file, or JSON lines.

    Only a newline ends a line: U+2028, U+0085 and their like stay in the text, and so does a newline within quotes.

    Args:
        file: ``.csv``, ``.tsv`` or ``.jsonl``.
        where: what an error begins with: the config key and its value.
        text_column: what the text's column is called.
        label_column: what the label's column is called.
        layout: how the file is written.

    Raises:
        ValueError: the file is empty, lacks a column, or rows are not as they must be; all of them are named.
        OSError: the file cannot be read.
    """
    suffix = Path(file.name).suffix.lower()
    try:
        check_kind(suffix, layout)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    text, facts = decode(_bytes(file, where), where, layout)
    if not text.strip():
        raise ValueError(f"{where} is empty")
    wanted = _Wanted(text_column, label_column, where, layout)
    rows = read_rows(lambda: split_lines(text, facts.newline), where, suffix, layout, wanted.check())
    found = Documents(notes=[*facts.notes, *rows.notes])
    for _, row in rows.read():
        found.texts.append(wanted.text(row))
        found.labels.append(wanted.label(row))
    if not found.texts:
        raise ValueError(f"{where} has a header, and no rows")
    return found


def _bytes(file: Traversable, where: str) -> bytes:
    try:
        return read_not_sparse(file) if isinstance(file, Path) else file.read_bytes()
    except (UserError, ValueError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    except OSError as error:
        raise OSError(f"{where} cannot be read: {error.strerror}") from error


def read_folder(folder: Path, where: str, layout: Layout = _PLAIN) -> Documents:
    """Read a folder for each class, or ``train``, ``valid`` and ``test`` with such folders in them.

    Each ``.txt`` file is one text, newlines included; hidden files and those of other kinds are not meant.

    Raises:
        ValueError: there is no such folder, or it holds no class folders, or a file is not UTF-8.
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        reason = "is no folder" if folder.exists() else "there is no such folder"
        raise ValueError(f"{where}: {reason}; it must hold a folder of .txt files for each class")
    parts = _folders(folder)
    found = Documents()
    if not any(_SPLIT_FOLDERS.get(part.name.lower()) == "train" and _folders(part) for part in parts):
        _read_classes(folder, where, layout, found)
        return found
    found.splits = []
    for part in parts:
        if (split := _SPLIT_FOLDERS.get(part.name.lower())) is None:
            known = ", ".join(SPLITS)
            raise ValueError(f"{where}: {part.name} stands beside train, but is none of {known}; take it away")
        if split in found.splits:
            raise ValueError(f"{where}: there are several folders for {split}, {part.name} among them; keep one")
        _read_classes(part, f"{where}/{part.name}", layout, found)
        found.splits += [split] * (len(found.texts) - len(found.splits))
    return found


def _read_classes(folder: Path, where: str, layout: Layout, found: Documents) -> None:
    classes = _folders(folder)
    if not classes:
        raise ValueError(f"{where} holds no folders; there must be one for each class, with .txt files in it")
    for each in classes:
        files = sorted(
            file for file in each.iterdir() if file.suffix.lower() == ".txt" and file.name[0] != "." and file.is_file()
        )
        if not files:
            raise ValueError(f"{where}: the folder {each.name} holds no .txt file; add texts, or take it away")
        label = label_of(each.name)
        for file in files:
            name = f"{where}: {each.name}/{file.name}"
            text, facts = decode(_bytes(file, name), name, layout)
            found.texts.append(text)
            found.labels.append(label)
            found.notes += (f"{each.name}/{file.name}: {note}" for note in facts.notes)


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")
