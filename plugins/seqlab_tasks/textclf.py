"""Text classification: the task, its public data, and tables and folders of labelled texts."""

import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Examples, Report, cache_folder
from seqlab.errors import check_choice
from seqlab.io.tables import (
    Check,
    Layout,
    Problems,
    check_encoding,
    check_kind,
    decode,
    label_of,
    missing_column,
    read_rows,
    split_lines,
)
from seqlab_tasks.classification import Balance, Baseline, Classification, check_paths, folders, read_file, user_folder
from seqlab_tasks.download import fetch_files, guided, verified
from seqlab_tasks.metrics import Confusion, Reliability, classification_metrics, draw_reliability, reliability_table
from seqlab_tasks.splitting import SPLITS, Documents, arrange

Source = Literal["bundled", "ntc_scv"]
Chunks = Literal["cut", "carry"]
Quoting = Literal["auto", "none", "standard"]
Header = Literal["auto", "none"]
Errors = Literal["strict", "replace"]

NTC_SCV = "https://github.com/congnghia0609/ntc-scv/raw/master/data/"
NTC_SCV_ARCHIVES = {
    "data_train.zip": "13871ed1f890ec58748f8aace9b35731a3e7e6ceb9adc5b3feb21248fcc8c73c",
    "data_test.zip": "d0173d3769492b0f42807868b18a002fc3e05531dce78c2b39b7110f7f30acb2",
}
"""SHA-256 of the archives."""

_FEW = 5_000
"""Number of training texts below which n-grams of a single text count in the baseline."""
_MEMBER = re.compile(r"(data_train/train|data_train/test|data_test/test)/(neg|pos)/[^/]+\.txt")
_SPLITS = {"data_train/train": "train", "data_train/test": "valid", "data_test/test": "test"}


@final
class TextClassification(Classification, preprocessing="words"):
    """Classify texts, such as reviews by sentiment.

    Texts without given splits are split 80 : 10 : 10 by class, with all copies of a text in one split. With given
    splits, texts that occur in test (or valid) are removed from train.

    Args:
        source: ``bundled``, short reviews in Vietnamese and English shipped with seqlab, or ``ntc_scv``, 50,000
            Vietnamese restaurant reviews, downloaded once (or from the two archives in ``data_dir``).
        data: your own file: ``.csv``, ``.tsv`` or ``.jsonl``.
        data_dir: your own folder with a folder of ``.txt`` files for each class, or with ``train``, ``valid``
            and ``test`` that contain such folders.
        text_column: name of the text column of ``data``.
        label_column: name of the label column of ``data``.
        split_seed: seed of the splits; independent of ``seed``.
        sequence_length: maximum number of tokens read from a text; null reads all.
        chunks: how to handle texts longer than ``sequence_length``: ``cut`` reads the beginning; ``carry`` reads
            all in chunks, with the state carried over. Set ``model.truncate`` to the same number to cut the gradient
            between chunks, which does not change the outputs.
        balance: how to handle class imbalance: ``none``, ``weights`` in the loss, or ``sampling`` of rare
            classes more often.
        balance_power: strength of the balancing: weights are ``count ** -balance_power``; 1 makes all classes equal.
        label_smoothing: share of the target spread over all classes.
        quoting: how to read quotes in ``data``: ``none`` as text, one row per line; ``standard`` as in CSV
            (RFC 4180); ``auto``: none in .tsv, standard in .csv, and refused if that joins rows.
        header: ``auto``: line 1 of ``data`` names the columns; ``none``: it is a row; columns are numbered from 1.
        encoding: of the files, such as cp1252 or utf-16.
        encoding_errors: how to handle bytes outside the encoding: ``strict`` refuses, ``replace`` uses U+FFFD.
        baseline: ``linear`` fits a linear classifier of n-grams beside the model and reports its scores; ``none`` does
            not.

    Raises:
        ValueError: an option is out of range, or two contradict each other.
    """

    def __init__(
        self,
        source: Source = "bundled",
        data: str | None = None,
        data_dir: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        split_seed: int = 0,
        sequence_length: int | None = 400,
        chunks: Chunks = "cut",
        balance: Balance = "none",
        balance_power: float = 0.8,
        label_smoothing: float = 0.0,
        quoting: Quoting = "auto",
        header: Header = "auto",
        encoding: str = "utf-8",
        encoding_errors: Errors = "strict",
        baseline: Baseline = "linear",
    ) -> None:
        super().__init__(sequence_length, balance, balance_power, label_smoothing)
        check_choice("baseline", baseline, Baseline)
        self.baseline = baseline
        layout = Layout(quoting, header, encoding, encoding_errors)
        check_choice("source", source, Source)
        check_choice("chunks", chunks, Chunks)
        _check_layout(layout)
        _check_sources(source, data, data_dir, layout)
        if text_column == label_column:
            raise ValueError(f"text_column and label_column must differ, got {text_column!r} for both")
        if chunks == "carry" and sequence_length is None:
            raise ValueError("chunks=carry needs sequence_length, the length of a chunk, got null")
        self.source, self.data, self.data_dir = source, data, data_dir
        self.text_column, self.label_column = text_column, label_column
        self.split_seed, self.chunks, self._layout = split_seed, chunks, layout
        if chunks == "carry":  # nothing is cut off: the length is that of a window
            self.sequence_length_means = "window"

    def linear_baseline(self) -> Mapping[str, Any] | None:
        """Return the nodes of ``model=bow``."""
        few = len(self._targets) < _FEW
        return (
            None
            if self.baseline == "none"
            else {
                "model": {"name": "bow", "min_count": 1 if few else 2},
                "preprocessing": {"name": "words", "steps": ["lower"]},
            }
        )

    def splits(self) -> Mapping[str, Examples]:
        """Read and split the texts."""
        where, documents = self._read()
        found = arrange(documents, where, self.split_seed)
        splits = {
            split: Examples([documents.texts[row] for row in rows], torch.tensor(found.targets[split]))
            for split, rows in found.rows.items()
        }
        self.set_classes(found.classes, splits["train"].targets)
        self.notes = found.notes
        if self.chunks == "carry":
            self.notes.append(f"texts are read in chunks of {self.sequence_length:,} tokens with carried state")
        return splits

    def _read(self) -> tuple[str, Documents]:
        """Return the config key and value that name the texts, and the texts."""
        if self.data is not None:
            where, path = f"task.data={self.data}", Path(self.data).expanduser()
            if not path.is_file():
                raise ValueError(f"{where}: no such file")
            return where, read_table(path, where, self.text_column, self.label_column, self._layout)
        where = f"task.source={self.source}" if self.data_dir is None else f"task.data_dir={self.data_dir}"
        if self.source == "ntc_scv":
            return where, ntc_scv(self.data_dir, self._layout.errors)
        if self.data_dir is not None:
            return where, read_folder(user_folder(self.data_dir, where), where, self._layout)
        reviews = files("seqlab_tasks") / "data" / "reviews" / "reviews.jsonl"
        return where, read_table(reviews, f"{where}: reviews.jsonl")

    def metrics(self) -> MetricCollection:
        """Return accuracy, balanced accuracy, macro F1, ROC-AUC, calibration error and cross-entropy."""
        return classification_metrics(self.outputs, ranking=True)

    def details(self) -> MetricCollection:
        """Return the confusion matrix ``[true, predicted]`` and the confidence bins."""
        return MetricCollection(
            {"confusion": Confusion(self.outputs), "reliability": Reliability()}, compute_groups=False
        )

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Return tables of the classes and of confidence, and draw ``confusion.png`` and ``reliability.png``."""
        report = super().report(details, folder)
        if "reliability" not in details:
            return report
        bins = details["reliability"].cpu().numpy()
        draw_reliability(bins, folder / "reliability.png")
        tables = {**report.tables, "reliability": reliability_table(bins)}
        return Report(tables, [*report.figures, "reliability.png"], report.notes)


def _check_layout(layout: Layout) -> None:
    check_choice("quoting", layout.quoting, Quoting)
    check_choice("header", layout.header, Header)
    check_choice("encoding_errors", layout.errors, Errors)
    check_encoding(layout.encoding)


def _check_sources(source: str, data: str | None, data_dir: str | None, layout: Layout) -> None:
    """Check that there is one source, and that the layout applies to it."""
    check_paths(data, data_dir)
    if data is not None and source != "bundled":
        raise ValueError(f"data={data} and source={source} are both set; remove one of them")
    for name, value in (("quoting", layout.quoting), ("header", layout.header)):
        if value != "auto" and data is None:
            raise ValueError(f"{name}={value} needs a table, but data is null; set data, or leave {name} at auto")
    if not layout.is_utf8 and (source != "bundled" or (data is None and data_dir is None)):
        raise ValueError(f"encoding must be utf-8 with task.source={source}, got {layout.encoding}")


def ntc_scv(
    data_dir: str | None,
    errors: Errors,
    url: str = NTC_SCV,
    archives: Mapping[str, str] = NTC_SCV_ARCHIVES,
) -> Documents:
    """Read the 50,000 reviews of NTC-SCV: 30,000 for training, 10,000 each for validation and test.

    Args:
        data_dir: a folder with the two archives; ``None`` uses the cache, and downloads them if missing.
        errors: how to handle bytes that are not UTF-8.
        url: of the archives.
        archives: SHA-256 of each, by name.

    Raises:
        ValueError, OSError: they cannot be read; the message says what to do.
    """
    folder = cache_folder() / "ntc-scv" if data_dir is None else Path(data_dir).expanduser()
    where = "task.source=ntc_scv" if data_dir is None else f"task.data_dir={data_dir}"
    names = " and ".join(archives)
    if data_dir is None:
        hint = f"Put {names} into {folder}, set task.data_dir, or use task.source=bundled"
        guided(lambda: fetch_files(url, archives, folder), "ntc_scv", hint)
    documents = Documents(splits=[])
    for name, digest in archives.items():
        if not (folder / name).is_file():
            raise ValueError(f"{where} has no {name}; task.source=ntc_scv needs {names} from {url}")
        if data_dir is not None and not verified(folder, {name: digest}):
            raise ValueError(f"{where}: {name} is not the file of {url}: its SHA-256 differs. Download it again")
        try:
            _read_archive(folder / name, where, Layout(errors=errors), documents)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{where}: {name} is damaged ({type(error).__name__}); download it again") from error
    return documents


def _read_archive(path: Path, where: str, layout: Layout, documents: Documents) -> None:
    """Add every review of an archive, sorted by name: the order is the same on every machine."""
    assert documents.splits is not None
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if member := _MEMBER.fullmatch(name):
                text, _ = decode(archive.read(name), f"{where}: {path.name}, {name}", layout)
                documents.texts.append(text)
                documents.labels.append(member[2])
                documents.splits.append(_SPLITS[member[1]])


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
    parts = folders(folder)
    documents = Documents()
    if not any(_SPLIT_FOLDERS.get(part.name.lower()) == "train" and folders(part) for part in parts):
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
    classes = folders(folder)
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
