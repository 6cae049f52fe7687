"""Tables and folders of texts with labels, and one clear line where they cannot be read."""

import io
import json
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from seqlab import UserError
from seqlab.bounded import normalised
from seqlab.solid import read_solid
from seqlab.tables import JSON_LINES, SEPARATORS, json_lines, separated
from seqlab_tasks.textclf.documents import SPLITS, Documents

Errors = Literal["strict", "replace"]

_SPLIT_FOLDERS = {name: name for name in SPLITS} | dict.fromkeys(("validation", "val", "dev"), "valid")
_WAY_OUT = "Set task.text_column and task.label_column"


def decode(data: bytes, name: str, errors: Errors) -> str:
    """Read UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: there is a zero byte, or one that is not UTF-8 and ``errors`` is ``strict``.
    """
    if (zero := data.find(b"\0")) >= 0:
        raise ValueError(f"{name}, byte {zero:,} is zero, as in UTF-16 or a file that is no text. Save it as UTF-8")
    try:
        return data.decode("utf-8", errors).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}, byte {error.start:,} is not UTF-8 ({data[error.start]:#04x})."
            " Save the file as UTF-8, or set task.encoding_errors=replace"
        ) from error


def read_table(
    file: Traversable, where: str, text_column: str = "text", label_column: str = "label", errors: Errors = "strict"
) -> Documents:
    """Read a CSV or TSV file with a header, or JSON lines.

    Only a newline ends a line: U+2028, U+0085 and their like stay in the text, and so does a newline within quotes.

    Args:
        file: ``.csv``, ``.tsv`` or ``.jsonl``.
        where: what an error begins with: the config key and its value.
        text_column: what the text's column is called.
        label_column: what the label's column is called.
        errors: what to do with bytes that are not UTF-8.

    Raises:
        ValueError: the file is empty, lacks a column, or a row is not as it must be.
        OSError: the file cannot be read.
    """
    suffix = Path(file.name).suffix.lower()
    if suffix not in SEPARATORS and suffix not in JSON_LINES:
        known = ", ".join([*SEPARATORS, *JSON_LINES])
        raise ValueError(f"{where}: what kind of table it is, is not known from its name; it must end in {known}")
    text = decode(_bytes(file, where), where, errors)
    if not text.strip():
        raise ValueError(f"{where} is empty")
    columns = (text_column, label_column)
    if suffix in SEPARATORS:
        rows = _separated(text, where, SEPARATORS[suffix], columns)
    else:
        rows = _json_lines(text, where, columns)
    found = Documents()
    for line, text_value, label_value in rows:
        found.texts.append(_text(text_value, f"{where}, line {line:,}: {text_column}", errors))
        found.labels.append(_label(label_value, f"{where}, line {line:,}: {label_column}", errors))
    if not found.texts:
        raise ValueError(f"{where} has a header, and no rows")
    return found


def _bytes(file: Traversable, where: str) -> bytes:
    try:
        return read_solid(file) if isinstance(file, Path) else file.read_bytes()
    except (UserError, ValueError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    except OSError as error:
        raise OSError(f"{where} cannot be read: {error.strerror}") from error


def _separated(text: str, where: str, separator: str, columns: tuple[str, str]) -> Iterator[tuple[int, Any, Any]]:
    rows = separated(io.StringIO(text, newline=""), where, separator)
    _, header = next(rows)
    text_at, label_at = (_column(name, header, where) for name in columns)
    for line, row in rows:
        yield line, row[text_at], row[label_at]


def _column(name: str, header: list[str], where: str) -> int:
    if header.count(name) > 1:
        raise ValueError(f"{where} has several columns {name!r}; there must be one")
    if name not in header:
        raise ValueError(f"{where} has no column {name!r}; there are {', '.join(header)}. {_WAY_OUT}")
    return header.index(name)


def _json_lines(text: str, where: str, columns: tuple[str, str]) -> Iterator[tuple[int, Any, Any]]:
    for line, row in json_lines(text.split("\n"), where):
        for name in columns:
            if name not in row:
                there = ", ".join(row) or "none"
                raise ValueError(f"{where}, line {line:,} has no column {name!r}; there are {there}. {_WAY_OUT}")
        yield line, row[columns[0]], row[columns[1]]


def _text(value: Any, place: str, errors: Errors) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place} is no text, but {json.dumps(value)[:40]}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        if errors == "strict":
            raise ValueError(
                f"{place} has half a character, {value[error.start]!a}. Mend it, or set task.encoding_errors=replace"
            ) from error
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _label(value: Any, place: str, errors: Errors) -> str:
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    label = normalised("NFC", _text(value, place, errors)).strip()
    if not label:
        raise ValueError(f"{place} is empty; each text needs a label")
    return label


def read_folder(folder: Path, where: str, errors: Errors = "strict") -> Documents:
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
        _read_classes(folder, where, errors, found)
        return found
    found.splits = []
    for part in parts:
        if (split := _SPLIT_FOLDERS.get(part.name.lower())) is None:
            known = ", ".join(SPLITS)
            raise ValueError(f"{where}: {part.name} stands beside train, but is none of {known}; take it away")
        if split in found.splits:
            raise ValueError(f"{where}: there are several folders for {split}, {part.name} among them; keep one")
        _read_classes(part, f"{where}/{part.name}", errors, found)
        found.splits += [split] * (len(found.texts) - len(found.splits))
    return found


def _read_classes(folder: Path, where: str, errors: Errors, found: Documents) -> None:
    classes = _folders(folder)
    if not classes:
        raise ValueError(f"{where} holds no folders; there must be one for each class, with .txt files in it")
    for each in classes:
        files = sorted(
            file for file in each.iterdir() if file.suffix.lower() == ".txt" and file.name[0] != "." and file.is_file()
        )
        if not files:
            raise ValueError(f"{where}: the folder {each.name} holds no .txt file; add texts, or take it away")
        label = normalised("NFC", each.name)
        for file in files:
            name = f"{where}: {each.name}/{file.name}"
            found.texts.append(decode(_bytes(file, name), name, errors))
            found.labels.append(label)


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")
