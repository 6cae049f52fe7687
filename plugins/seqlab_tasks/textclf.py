"""Text classification: the task and its public data."""

import re
import zipfile
import zlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from torch import Tensor
from torchmetrics import MetricCollection

from seqlab import Choice, Examples, Report, SearchSpace, cache_folder
from seqlab.errors import check_choice
from seqlab.io.tables import Layout, decode
from seqlab_tasks.classification import TEXT_MODELS, Balance, Baseline, Classification
from seqlab_tasks.download import fetch_files, guided, verified
from seqlab_tasks.folds import Folds
from seqlab_tasks.metrics import Confusion, Reliability, classification_metrics, draw_reliability, reliability_table
from seqlab_tasks.own_texts import Errors, OwnTexts, read_documents
from seqlab_tasks.splitting import Documents

Source = Literal["bundled", "ntc_scv"]
Chunks = Literal["cut", "carry"]

NTC_SCV = "https://github.com/congnghia0609/ntc-scv/raw/master/data/"
NTC_SCV_ARCHIVES = {
    "data_train.zip": "13871ed1f890ec58748f8aace9b35731a3e7e6ceb9adc5b3feb21248fcc8c73c",
    "data_test.zip": "d0173d3769492b0f42807868b18a002fc3e05531dce78c2b39b7110f7f30acb2",
}
"""SHA-256 of the archives."""

_RECURRENT: Mapping[str, Any] = {
    "model.pooling": "max",
    "model.input_dropout": 0.5,
    "model.output_dropout": 0.5,
    "model.embedding_std": 0.1,
    "preprocessing.steps": ["lower"],
    "preprocessing.min_count": 2,
}
"""Defaults of the recurrent model."""
_FEW = 5_000
"""Number of training texts below which n-grams of a single text count in the baseline."""
_MEMBER = re.compile(r"(data_train/train|data_train/test|data_test/test)/(neg|pos)/[^/]+\.txt")
_SPLITS = {"data_train/train": "train", "data_train/test": "valid", "data_test/test": "test"}


@final
class TextClassification(
    OwnTexts, preprocessing="words", max_epochs=10, min_updates=1_000, of_model={"recurrent": _RECURRENT}
):
    """Classify texts, such as reviews by sentiment.

    Texts without given splits are split 80 : 10 : 10 by class, with all copies of a text in one split. With given
    splits, texts that occur in test (or valid) are removed from train. On small data ``data.batch_size=auto`` and
    ``trainer.max_epochs=auto`` choose at least 1,000 updates where they can: smaller batches, from 256 down to 32, then
    up to 100 epochs. With ``model=recurrent`` the defaults are ``model.pooling=max``, ``model.input_dropout=0.5``,
    ``model.output_dropout=0.5``, ``model.embedding_std=0.1`` and, for words, ``preprocessing.steps=[lower]`` and
    ``preprocessing.min_count=2``: chosen on validation texts of eight public sets and the bundled one.

    Args:
        source: ``bundled``, short reviews in Vietnamese and English shipped with seqlab, or ``ntc_scv``, 50,000
            Vietnamese restaurant reviews, downloaded once (or from the two archives in ``data_dir``).
        split_seed: seed of the splits; independent of ``seed``.
        sequence_length: maximum number of tokens read from a text; null reads all.
        chunks: how to handle texts longer than ``sequence_length``: ``cut`` reads the beginning; ``carry`` reads
            all in chunks, with the state carried over. Set ``model.truncate`` to the same number to cut the gradient
            between chunks, which does not change the outputs.
        balance: how to handle class imbalance: ``none``, ``weights`` in the loss, or ``sampling`` of rare
            classes more often.
        balance_power: strength of the balancing: weights are ``count ** -balance_power``; 1 makes all classes equal.
        label_smoothing: share of the target spread over all classes.
        folds: number of folds of cross-validation, each by class with all copies of a text in one; the command runs
            them one after another, and prints mean and interval. null: one division.
        fold: the fold that is the test split, from 0; a tenth of the others is for validation.
        refit: after the folds, train a model on all texts; its ``estimate`` is the mean of the folds.
        baseline: ``linear`` fits a linear classifier of n-grams beside the model and reports its scores; ``none`` does
            not.
        **own: the user's own texts; the arguments of :class:`seqlab_tasks.own_texts.OwnTexts`.

    Raises:
        ValueError: an option is out of range, or two contradict each other.
    """

    added_options: ClassVar[Mapping[str, Any]] = {
        "valid": None, "test": None, "split_column": None, "group_column": None, "on_missing": "error",
        "label_names": None, "min_class_count": None, "rare": "error", "folds": None, "fold": None, "refit": False,
    }  # fmt: skip

    def __init__(
        self,
        source: Source = "bundled",
        split_seed: int = 0,
        sequence_length: int | None = 400,
        chunks: Chunks = "cut",
        balance: Balance = "none",
        balance_power: float = 0.8,
        label_smoothing: float = 0.0,
        folds: int | None = None,
        fold: int | None = None,
        refit: bool = False,
        baseline: Baseline = "linear",
        **own: Any,
    ) -> None:
        Classification.__init__(self, sequence_length, balance, balance_power, label_smoothing)
        OwnTexts.__init__(self, **own)
        check_choice("baseline", baseline, Baseline)
        self.baseline = baseline
        check_choice("source", source, Source)
        check_choice("chunks", chunks, Chunks)
        if self.data is not None and source != "bundled":
            raise ValueError(f"data={self.data} and source={source} are both set; remove one of them")
        encoding, has_own = self._layout.encoding, self.data is not None or self.data_dir is not None
        if not self._layout.is_utf8 and (source != "bundled" or not has_own):
            raise ValueError(f"encoding must be utf-8 with task.source={source}, got {encoding}")
        if chunks == "carry" and sequence_length is None:
            raise ValueError("chunks=carry needs sequence_length, the length of a chunk, got null")
        self.source, self.split_seed, self.chunks = source, split_seed, chunks
        self._folds = Folds(folds, fold, refit)
        self._folds.check()
        if chunks == "carry":  # nothing is cut off: the length is that of a window
            self.sequence_length_means = "window"

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return models, units of text, class balance and label smoothing."""
        return {**super().search_space(), "model": TEXT_MODELS, "preprocessing": Choice(("words", "characters", "bpe"))}

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
        splits = self.arranged(*self._read(), self.split_seed, self._folds)
        if self.chunks == "carry":
            self.notes.append(f"texts are read in chunks of {self.sequence_length:,} tokens with carried state")
        return splits

    def _read(self) -> tuple[str, Documents]:
        """Return the config key and value that name the texts, and the texts."""
        if self.source == "ntc_scv":
            where = f"task.source={self.source}" if self.data_dir is None else f"task.data_dir={self.data_dir}"
            return where, ntc_scv(self.data_dir, self._layout.errors)
        if self.data is not None or self.data_dir is not None:
            return self.read_own()
        where = f"task.source={self.source}"
        reviews = files("seqlab_tasks") / "data" / "reviews" / "reviews.jsonl"
        return where, read_documents(reviews, f"{where}: reviews.jsonl")

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
