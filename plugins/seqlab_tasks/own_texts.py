"""The user's own labelled texts: options, and reading of tables, given splits and folders."""

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import torch

from seqlab import Examples
from seqlab.errors import check_choice, check_range
from seqlab.io.tables import (
    SPLIT_NAMES,
    Columns,
    Layout,
    check_encoding,
    class_files,
    class_folders,
    column_names,
    label_of,
    read_table,
    read_texts,
)
from seqlab_tasks.classification import Classification, check_paths, user_folder
from seqlab_tasks.folds import Folds
from seqlab_tasks.splitting import SPLITS, Documents, Rare, arrange

Quoting = Literal["auto", "none", "standard"]
Header = Literal["auto", "none"]
Errors = Literal["strict", "replace"]
OnMissing = Literal["error", "drop", "empty"]
ColumnOption = str | int | Sequence[str | int]

_PLAIN = Layout()
_SHOWN = 5
"""Labels to name in a note."""


class OwnTexts(Classification, ABC):
    """Classification of the user's own texts: a table, or folders.

    Args:
        data: your own file: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet`` or ``.xlsx``.
        data_dir: your own folder with a folder of ``.txt`` files or a file ``<class>.txt`` of lines for each class, or
            with ``train``, ``valid`` and ``test`` that contain such.
        valid: file of the validation split, in the format of ``data``; null takes a tenth of ``data``.
        test: file of the test split; null takes a tenth of ``data``.
        text_column: name of the text column of ``data``; of several, ``[title,body]``, the texts are joined by a line
            end.
        label_column: name of the label column of ``data``.
        split_column: name of a column with train, valid or test.
        group_column: name of a column, such as an author; texts of one group are in one split.
        on_missing: texts that are null, and labels that are missing: ``error`` refuses; ``drop`` skips such rows;
            ``empty`` reads null as an empty text.
        label_names: class of each label, ``{1: World, 2: Sports}``; labels without one keep theirs.
        min_class_count: fewest different texts (or groups) of a class in training; null for as many as splits need.
        rare: classes with fewer: ``error`` refuses them, ``merge`` makes them one class, ``drop`` skips their texts.
        quoting: how to read quotes in ``data``: ``none`` as text, one row per line; ``standard`` as in CSV
            (RFC 4180); ``auto``: none in .tsv, standard in .csv, and refused if that joins rows.
        header: ``auto``: line 1 of ``data`` names the columns; ``none``: it is a row; columns are numbered from 1.
        encoding: of the files, such as cp1252 or utf-16.
        encoding_errors: how to handle bytes outside the encoding: ``strict`` refuses, ``replace`` uses U+FFFD.

    Raises:
        ValueError: an option is out of range, or two contradict each other.
    """

    def __init__(
        self,
        data: str | None = None,
        data_dir: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        text_column: ColumnOption = "text",
        label_column: str = "label",
        split_column: str | None = None,
        group_column: str | None = None,
        on_missing: OnMissing = "error",
        label_names: Mapping[str | int | float | bool, str] | None = None,
        min_class_count: int | None = None,
        rare: Rare = "error",
        quoting: Quoting = "auto",
        header: Header = "auto",
        encoding: str = "utf-8",
        encoding_errors: Errors = "strict",
    ) -> None:
        self.data, self.data_dir, self.given = data, data_dir, {"valid": valid, "test": test}
        self.rare, self.min_class_count = rare, min_class_count
        self._layout = Layout(quoting, header, encoding, encoding_errors)
        self.text_column, self.label_column = text_column, label_column
        self._columns = Columns(
            "", column_names(text_column), label_column, split_column, group_column, on_missing, layout=self._layout
        )
        self._renamed = {_written(label): _written(name) for label, name in (label_names or {}).items()}
        self._merged: dict[str, str] = {}
        check_choice("on_missing", on_missing, OnMissing)
        check_choice("rare", rare, Rare)
        if min_class_count is not None:
            check_range("min_class_count", min_class_count, 1)
        _check_layout(self._layout)
        self._check_columns()
        self._check_files()

    def _check_columns(self) -> None:
        columns = self._columns
        if not columns.text:
            raise ValueError("text_column must name at least one column, got []")
        named = {"text_column": columns.text, "label_column": (columns.label,)}
        named |= {"split_column": (columns.split,), "group_column": (columns.group,)}
        owners: dict[str, str] = {}
        for option, names in named.items():
            for name in names:
                if name is None:
                    continue
                if name in owners and {option, owners[name]} != {"text_column", "group_column"}:
                    raise ValueError(f"{owners[name]} and {option} must differ, got {name!r} for both")
                owners.setdefault(name, option)

    def _check_files(self) -> None:
        check_paths(self.data, self.data_dir)
        columns, layout = self._columns, self._layout
        set_options = {
            "quoting": layout.quoting != "auto",
            "header": layout.header != "auto",
            "valid": self.given["valid"],
            "test": self.given["test"],
            "split_column": columns.split,
            "group_column": columns.group,
        }
        for name, is_set in set_options.items():
            if is_set and self.data is None:
                value = getattr(layout, name, is_set)
                raise ValueError(f"{name}={value} needs a table, but data is null; set data, or leave {name} unset")
        if self.given["valid"] and not self.given["test"]:
            raise ValueError(
                f"valid={self.given['valid']} needs test, too; if that file is all there is, set test instead: a tenth"
                " of data is then used for validation"
            )
        if columns.split is not None and self.given["test"]:
            raise ValueError(f"split_column={columns.split} and test={self.given['test']} are both set; remove one")

    def arranged(self, where: str, documents: Documents, split_seed: int, folds: Folds) -> dict[str, Examples]:
        """Rename labels, split the texts, and set classes and notes."""
        self._rename(documents)
        least = self.min_class_count
        if self.rare != "error" and folds.count is not None and documents.splits is None:
            least = max(least or 0, len(SPLITS), folds.count)
        found = arrange(documents, where, split_seed, least, self.rare)
        if folds.count is not None:
            if documents.splits is not None:
                raise ValueError(f"{where} has given splits, so that task.folds={folds.count} must be null")
            rows = sorted(row for part in found.rows.values() for row in part)  # neither empty nor dropped
            units = dict(zip(rows, documents.take(rows).units(), strict=True))
            found = folds.arrange(found, units, where, split_seed)
        texts = documents.texts
        splits = {
            split: Examples([texts[row] for row in rows], torch.tensor(found.targets[split]))
            for split, rows in found.rows.items()
        }
        self.set_classes(found.classes, splits["train"].targets)
        self.notes, self._merged = found.notes, found.merged
        return splits

    def _rename(self, documents: Documents) -> None:
        if not self._renamed:
            return
        there = set(documents.labels)
        for labels, what in (
            (there - self._renamed.keys() - {*self._renamed.values()}, "labels without a name in task.label_names"),
            (self._renamed.keys() - there, "names in task.label_names of labels that do not occur"),
        ):
            if labels:
                more = f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
                documents.notes.append(f"{what}: {', '.join(map(repr, sorted(labels)[:_SHOWN]))}{more}")
        documents.labels = [self._renamed.get(label, label) for label in documents.labels]

    def class_of(self, label: str) -> str:
        """Return the class of a label as a table has it: its name, or the class of merged labels."""
        name = self._renamed.get(label, label)
        return self._merged.get(name, name)

    def state_dict(self) -> dict[str, Any]:
        """Return the labels, the number of training examples of each, and the labels that were merged."""
        return super().state_dict() | ({"merged": dict(self._merged)} if self._merged else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned; a ValueError says what is wrong with it."""
        merged = state.get("merged", {}) if isinstance(state, dict) else {}
        if not isinstance(merged, dict) or not all(isinstance(name, str) for name in merged.values()):
            raise ValueError("merged must be the class of each label")
        super().load_state_dict({key: value for key, value in state.items() if key != "merged"} if merged else state)
        self._merged = dict(merged)

    def read_own(self) -> tuple[str, Documents]:
        """Return the config key and value that name the user's texts, and the texts."""
        if self.data is None:
            where = f"task.data_dir={self.data_dir}"
            return where, read_folder(user_folder(self.data_dir or "", where), where, self._layout)
        where = f"task.data={self.data}"
        documents = read_documents(_user_file(self.data, where), where, self._columns)
        for split in ("valid", "test"):
            if (path := self.given[split]) is not None:
                key = f"task.{split}={path}"
                documents = _with_split(documents, read_documents(_user_file(path, key), key, self._columns), split)
        return where, documents


def _written(label: str | int | float | bool) -> str:
    """Return a key or a value of ``label_names`` as the label that a table has."""
    try:
        return label_of(label)
    except ValueError as error:
        raise ValueError(f"label_names: a label {error}") from error


def _check_layout(layout: Layout) -> None:
    check_choice("quoting", layout.quoting, Quoting)
    check_choice("header", layout.header, Header)
    check_choice("encoding_errors", layout.errors, Errors)
    check_encoding(layout.encoding)


def _user_file(path: str, where: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        folder = "; it is a folder: set task.data_dir" if file.is_dir() else ""
        raise ValueError(f"{where}: no such file{folder}")
    return file


def _with_split(documents: Documents, more: Documents, split: str) -> Documents:
    """Return the texts of a table with those of a given split behind them."""
    splits = documents.splits or ["train"] * len(documents.texts)
    groups = None
    if documents.groups is not None:
        groups = [*documents.groups, *(more.groups or ())]
    return replace(
        documents,
        texts=documents.texts + more.texts,
        labels=documents.labels + more.labels,
        splits=[*splits, *(split for _ in more.texts)],
        notes=[*documents.notes, *(f"{split}: {note}" for note in more.notes)],
        groups=groups,
    )


def read_documents(file: Traversable, where: str, columns: Columns | None = None) -> Documents:
    """Read the labelled texts of a table.

    Args:
        file: a table of any kind that :func:`seqlab.io.tables.read_table` reads.
        where: config key and value, the prefix of messages.
        columns: to read.

    Raises:
        ValueError: the file is empty, lacks a column, or has bad rows; the message lists all of them.
        OSError: the file cannot be read.
    """
    columns = replace(columns or Columns(where), where=where)
    table = read_table(file, where, columns.layout, columns.check())
    documents = Documents(notes=list(table.notes))
    splits, groups, dropped = list[str](), list[str | None](), 0
    for _, row in table.read():
        if columns.drops(row):
            dropped += 1
            continue
        documents.texts.append(columns.text_of(row))
        documents.labels.append(columns.label_of(row))
        groups.append(columns.group_of(row))
        if (split := columns.split_of(row)) is not None:
            splits.append(split)
    if dropped:
        documents.notes.append(f"rows without a text or a label, skipped: {dropped:,}")
    if not documents.texts:
        raise ValueError(f"{where}: all {dropped:,} rows lack a text or a label")
    documents.splits = splits if columns.split is not None else None
    documents.groups = groups if columns.group is not None else None
    return documents


def read_folder(folder: Path, where: str, layout: Layout = _PLAIN) -> Documents:
    """Read a folder of texts by class, or ``train``, ``valid`` and ``test`` with such in them.

    Args:
        folder: of the classes or the splits; see :func:`seqlab.io.tables.class_files`.
        where: config key and value, the prefix of messages.
        layout: the encoding.

    Raises:
        ValueError: there are no classes, or a file has bytes that the encoding does not have.
        OSError: a file cannot be read.
    """
    parts = class_folders(folder)
    documents = Documents()
    if not _are_splits(parts):
        _add(documents, folder, where, layout)
        return documents
    documents.splits = []
    for part in parts:
        if (split := SPLIT_NAMES.get(part.name.lower())) is None:
            known = ", ".join(SPLITS)
            raise ValueError(f"{where}: folders beside train must be one of {known}, got {part.name}; remove it")
        if split in documents.splits:
            raise ValueError(f"{where}: there are several folders for {split}, such as {part.name}; keep one")
        _add(documents, part, f"{where}/{part.name}", layout)
        documents.splits += [split] * (len(documents.texts) - len(documents.splits))
    return documents


def _are_splits(parts: Sequence[Path]) -> bool:
    """Return whether folders are splits: one is ``train`` and has folders, or all have files of its classes."""
    names = [SPLIT_NAMES.get(part.name.lower()) for part in parts]
    if any(name == "train" and class_folders(part) for name, part in zip(names, parts, strict=True)):
        return True
    if len(parts) < 2 or "train" not in names or None in names:
        return False
    classes = [{file.label for file in class_files(part, part.name, needs_texts=False)} for part in parts]
    train = classes[names.index("train")]
    return len(train) > 1 and all(each & train for each in classes)


def _add(documents: Documents, folder: Path, where: str, layout: Layout) -> None:
    texts: Iterator[tuple[str, str]] = read_texts(class_files(folder, where), where, layout, documents.notes)
    for text, label in texts:
        documents.texts.append(text)
        documents.labels.append(label)
