"""The task: texts in, labels out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Examples, Report
from seqlab.io.tables import Layout, check_encoding
from seqlab_tasks.classification import Balance, Classification
from seqlab_tasks.metrics import Confusion, Reliability, classification_metrics
from seqlab_tasks.reliability import draw_reliability, reliability_table
from seqlab_tasks.textclf.documents import SPLITS, Documents, arrange
from seqlab_tasks.textclf.reading import read_folder, read_table
from seqlab_tasks.textclf.sources import bundled, ntc_scv

Chunks = Literal["cut", "carry"]


def _check_choices(source: str, chunks: str, layout: Layout) -> None:
    for name, value, choices in (
        ("source", source, ("bundled", "ntc_scv")),
        ("chunks", chunks, ("cut", "carry")),
        ("quoting", layout.quoting, ("auto", "none", "standard")),
        ("header", layout.header, ("auto", "none")),
        ("encoding_errors", layout.errors, ("strict", "replace")),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
    check_encoding(layout.encoding)


def _check_sources(source: str, data: str | None, data_dir: str | None, layout: Layout) -> None:
    """Check that one source is named, and that the layout is of files that are read."""
    if data == "" or data_dir == "":
        raise ValueError(f"{'data' if data == '' else 'data_dir'} is empty; it must name something, or be null")
    if data is not None and (data_dir is not None or source != "bundled"):
        other = f"source={source}" if data_dir is None else f"data_dir={data_dir}"
        raise ValueError(f"data={data} and {other} are both set; leave one of them out")
    for name, value in (("quoting", layout.quoting), ("header", layout.header)):
        if value != "auto" and data is None:
            raise ValueError(f"{name} is {value}, but data is null; it tells how a table in data is written")
    if not layout.is_utf8 and (source != "bundled" or (data is None and data_dir is None)):
        raise ValueError(f"encoding is {layout.encoding}, but task.source={source} is in UTF-8; leave it out")


@final
class TextClassification(Classification, preprocessing="words"):
    """Tell the class of a text, such as whether a review is pleased.

    Without splits of their own, texts are dealt out 80 : 10 : 10 by class, copies of a text to one side. Where the
    source gives splits, what test (or valid) has is taken out of train.

    Args:
        source: ``bundled``, short reviews in Vietnamese and English that come with seqlab, or ``ntc_scv``, 50,000
            Vietnamese reviews of places to eat, downloaded once (or from the two archives in ``data_dir``).
        data: a file of one's own: ``.csv``, ``.tsv`` or ``.jsonl``.
        data_dir: a folder of one's own with a folder of ``.txt`` files for each class, or with ``train``, ``valid``
            and ``test`` that hold such folders.
        text_column: the column of ``data`` that holds the text.
        label_column: the column of ``data`` that holds the label.
        split_seed: another one deals texts out to the splits anew; ``seed`` does not.
        sequence_length: tokens that are read of a text, at most; null reads all.
        chunks: what is done about texts longer than ``sequence_length``: ``cut`` reads their beginning; ``carry``
            reads all, chunk after chunk with the state carried over. Set ``model.truncate`` to the same number to cut
            the gradient between chunks, which the outputs do not depend on.
        balance: what is done about classes of unequal size: ``none``, ``weights`` in the loss, or ``sampling``
            rare ones more often.
        balance_power: how much: weights are the count to the power of minus this; 1 makes all classes equal.
        label_smoothing: share of the target that is spread over all classes.
        quoting: how quotes in ``data`` are read: ``none`` as text, so that each line is a row; ``standard`` as CSV
            has them (RFC 4180); ``auto``: none in .tsv, standard in .csv, and refused where that joins rows.
        header: ``auto``: line 1 of ``data`` names the columns; ``none``: it is a row, and columns go by number from 1.
        encoding: of the files, such as cp1252 or utf-16.
        encoding_errors: what to do with bytes that are not of it: ``strict`` refuses, ``replace`` shows U+FFFD.

    Raises:
        ValueError: an option is out of its range, or two contradict each other.
    """

    def __init__(
        self,
        source: Literal["bundled", "ntc_scv"] = "bundled",
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
        quoting: Literal["auto", "none", "standard"] = "auto",
        header: Literal["auto", "none"] = "auto",
        encoding: str = "utf-8",
        encoding_errors: Literal["strict", "replace"] = "strict",
    ) -> None:
        super().__init__(sequence_length, balance, balance_power, label_smoothing)
        layout = Layout(quoting, header, encoding, encoding_errors)
        _check_choices(source, chunks, layout)
        _check_sources(source, data, data_dir, layout)
        if text_column == label_column:
            raise ValueError(f"text_column and label_column are both {text_column!r}; they must be two")
        if chunks == "carry" and sequence_length is None:
            raise ValueError("chunks is carry, but sequence_length is null; it must say how long a chunk is")
        self.source, self.data, self.data_dir = source, data, data_dir
        self.text_column, self.label_column = text_column, label_column
        self.split_seed, self.chunks, self._layout = split_seed, chunks, layout
        if chunks == "carry":  # nothing is to be cut off: the length is that of a window on the text
            self.sequence_length_means = "window"

    def splits(self) -> Mapping[str, Examples]:
        """Read and split the texts.

        Raises:
            ValueError, OSError: the texts cannot be had, or a class has too few; the message says what to do.
        """
        where = self._where()
        found = arrange(self._read(where), where, self.split_seed)
        made = {split: Examples(found.texts[split], torch.tensor(found.targets[split])) for split in SPLITS}
        self.learn_classes(found.classes, made["train"].targets)
        self.notes = found.notes
        if self.chunks == "carry":
            self.notes.append(f"texts are read to their end, in chunks of {self.sequence_length:,} with carried state")
        return made

    def _where(self) -> str:
        if self.data is not None:
            return f"task.data={self.data}"
        return f"task.source={self.source}" if self.data_dir is None else f"task.data_dir={self.data_dir}"

    def _read(self, where: str) -> Documents:
        if self.data is not None:
            path = Path(self.data).expanduser()
            if not path.is_file():
                raise ValueError(f"{where}: there is no such file")
            return read_table(path, where, self.text_column, self.label_column, self._layout)
        if self.source == "ntc_scv":
            return ntc_scv(self.data_dir, self._layout.errors)
        if self.data_dir is not None:
            return read_folder(Path(self.data_dir).expanduser(), where, self._layout)
        return bundled()

    def metrics(self) -> MetricCollection:
        """Make accuracy, balanced accuracy, macro F1, ROC-AUC, calibration error and cross-entropy."""
        return classification_metrics(self.outputs, ranking=True)

    def details(self) -> MetricCollection:
        """Make the confusion matrix ``[true, predicted]`` and the bins of confidence."""
        return MetricCollection(
            {"confusion": Confusion(self.outputs), "reliability": Reliability()}, compute_groups=False
        )

    def report(self, details: Mapping[str, Tensor], folder: Path) -> Report:
        """Make tables of the classes and of confidence, and draw ``confusion.png`` and ``reliability.png``."""
        report = super().report(details, folder)
        if "reliability" not in details:
            return report
        bins = details["reliability"].cpu().numpy()
        draw_reliability(bins, folder / "reliability.png")
        tables = {**report.tables, "reliability": reliability_table(bins)}
        return Report(tables, [*report.figures, "reliability.png"], report.notes)
