"""Classification of names by language: download, reading, cleaning and splitting."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch

from seqlab import Examples, SearchSpace, cache_folder
from seqlab.errors import check_choice
from seqlab.io.safe_io import normalise_unicode
from seqlab.io.tables import label_of
from seqlab_tasks.classification import (
    TEXT_MODELS,
    Balance,
    Baseline,
    Classification,
    check_paths,
    read_file,
    user_folder,
)
from seqlab_tasks.download import base_name, fetch_archive, guided
from seqlab_tasks.folds import Folds
from seqlab_tasks.splitting import SPLITS, SplitError, grouped_split

Source = Literal["bundled", "pytorch-tutorial"]
Errors = Literal["strict", "replace"]

TUTORIAL = "https://download.pytorch.org/tutorial/data.zip"
"""Archive of the PyTorch tutorial on names."""

TUTORIAL_FILES = {
    "data/names/Arabic.txt": "6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc",
    "data/names/Chinese.txt": "49263ef55a8cb1740e841d65cad8214b2f9b5b869bc534c811746422496fa91e",
    "data/names/Czech.txt": "145bbbd6d0816578f03388e92c264d39ef1c60df920b081d371fa5c5cc055a8e",
    "data/names/Dutch.txt": "924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3",
    "data/names/English.txt": "9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2",
    "data/names/French.txt": "81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95",
    "data/names/German.txt": "7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db",
    "data/names/Greek.txt": "3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6",
    "data/names/Irish.txt": "cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058",
    "data/names/Italian.txt": "f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4",
    "data/names/Japanese.txt": "e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f",
    "data/names/Korean.txt": "cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136",
    "data/names/Polish.txt": "45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826",
    "data/names/Portuguese.txt": "50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53",
    "data/names/Russian.txt": "43b3e64ce351f77f1ac9e0cdf7566012d127f4371875fd25208845b5c9d6f7c3",
    "data/names/Scottish.txt": "78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd",
    "data/names/Spanish.txt": "1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7",
    "data/names/Vietnamese.txt": "f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d",
}
"""SHA-256 of the archive's name files."""

JUNK = frozenset({"to the first page"})
"""Rows of web page navigation in the PyTorch tutorial's files."""
MAX_LENGTH = 1_000
"""Longest row in characters: a batch is as long as its longest name."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_INVISIBLE = " \u200b\u2060\ufeff"  # characters of no width, which str.split() keeps
_STRAY = re.compile(r"(?:(?<![\s\d,:;])[\s\d,:;]++|/\w)$")


@final
class Names(Classification, preprocessing="characters"):
    """Classify names by language, from their characters.

    Names are cleaned, and duplicates within a language removed. All spellings of a name (up to capitals, accents,
    hyphens and apostrophes) are in one split, in all languages; each language is split 80 : 10 : 10.

    Args:
        source: ``bundled``, 18 languages shipped with seqlab, or ``pytorch-tutorial``, 20,074 rows of the same
            languages, downloaded once.
        data_dir: a folder of ``<Language>.txt``, one name per line, in any script; overrides ``source``.
        split_seed: seed of the splits; independent of ``seed``.
        sequence_length: maximum number of characters read from a name; null reads all.
        balance: how to handle class imbalance: ``none``, ``weights`` in the loss, or ``sampling`` of rare
            languages more often.
        balance_power: strength of the balancing: weights are ``count ** -balance_power``; 1 makes all languages equal.
        label_smoothing: share of the target spread over all languages.
        encoding_errors: how to handle bytes that are not UTF-8: ``strict`` refuses, ``replace`` uses U+FFFD.
        folds: number of folds of cross-validation, each by language with all spellings of a name in one; the command
            runs them one after another, and prints mean and interval. null: one division.
        fold: the fold that is the test split, from 0; a tenth of the others is for validation.
        refit: after the folds, train a model on all names; its ``estimate`` is the mean of the folds.
        baseline: ``linear`` fits a linear classifier of n-grams beside the model and reports its scores; ``none`` does
            not.

    Raises:
        ValueError: an option is out of range.
    """

    noun = ("language", "languages")

    added_options: ClassVar[Mapping[str, Any]] = {"folds": None, "fold": None, "refit": False}

    def __init__(
        self,
        source: Source = "bundled",
        data_dir: str | None = None,
        split_seed: int = 0,
        sequence_length: int | None = None,
        balance: Balance = "none",
        balance_power: float = 0.8,
        label_smoothing: float = 0.0,
        encoding_errors: Errors = "strict",
        folds: int | None = None,
        fold: int | None = None,
        refit: bool = False,
        baseline: Baseline = "linear",
    ) -> None:
        super().__init__(sequence_length, balance, balance_power, label_smoothing)
        check_choice("baseline", baseline, Baseline)
        self.baseline = baseline
        check_choice("source", source, Source)
        check_choice("encoding_errors", encoding_errors, Errors)
        check_paths(None, data_dir)
        self.source, self.data_dir, self.encoding_errors = source, data_dir, encoding_errors
        self.split_seed, self._folds = split_seed, Folds(folds, fold, refit)
        self._folds.check()

    @classmethod
    def search_space(cls) -> SearchSpace:
        """Return models, class balance and label smoothing."""
        return {**super().search_space(), "model": TEXT_MODELS}

    def linear_baseline(self) -> Mapping[str, Any] | None:
        """Return the nodes of ``model=bow``."""
        return (
            None
            if self.baseline == "none"
            else {
                "model": {"name": "bow", "min_count": 2},
                "preprocessing": {"name": "characters"},
            }
        )

    def splits(self) -> Mapping[str, Examples]:
        """Read, clean and split the names."""
        where = f"task.source={self.source}" if self.data_dir is None else f"task.data_dir={self.data_dir}"
        if self.data_dir is not None:
            paths = text_files(user_folder(self.data_dir, where))
            if not paths:
                raise ValueError(f"{where} has no .txt file; it must have <Class>.txt, one name per line")
        else:
            paths = text_files(files("seqlab_tasks") / "data" / "names") if self.source == "bundled" else tutorial()
        classes, names, labels, self.notes = read_names(paths, where, self.encoding_errors)
        units = [spelling(name) for name in names]
        try:
            parts = self._parts(units, labels)
        except SplitError as error:
            if self._folds.count is not None:
                raise ValueError(self._folds.explain(error, f"{where}: {classes[error.label]}.txt")) from error
            message = f"{where}: {classes[error.label]}.txt has {error.groups} different names"
            if error.groups < len(SPLITS):
                message += f"; at least {len(SPLITS)} are needed, one each for train, valid and test"
            else:
                message += ", shared with other files: they cannot be in each of train, valid and test"
            raise ValueError(f"{message}. Add names, or remove the file") from error
        targets = torch.tensor(labels)
        splits = {split: Examples([names[row] for row in rows], targets[rows]) for split, rows in parts.items()}
        self.set_classes(classes, splits["train"].targets)
        return splits

    def _parts(self, units: Sequence[str], labels: Sequence[int]) -> dict[str, list[int]]:
        """Return the rows of each split: a fold's, or 80 : 10 : 10."""
        if self._folds.count is not None:
            self.notes += self._folds.notes()
            return self._folds.divide(units, labels, self.split_seed)
        split_of = grouped_split(units, labels, seed=self.split_seed)
        return {split: np.flatnonzero(split_of == index).tolist() for index, split in enumerate(SPLITS)}


def tutorial(url: str = TUTORIAL, members: Mapping[str, str] = TUTORIAL_FILES) -> list[Traversable]:
    """Return the files of the PyTorch tutorial, downloaded if they are not in the cache.

    Raises:
        ValueError, OSError: the download failed; the message says what to do.
    """
    folder = cache_folder() / "names-pytorch-tutorial"
    hint = f"Put the files of its folder data/names into {folder}, set task.data_dir, or use task.source=bundled"
    guided(lambda: fetch_archive(url, members, folder), "pytorch-tutorial", hint)
    return [folder / base_name(path) for path in members]


def text_files(folder: Traversable) -> list[Traversable]:
    """Return the text files of a folder by name, without hidden ones."""
    found = (file for file in folder.iterdir() if file.name.lower().endswith(".txt") and file.name[0] != ".")
    return sorted((file for file in found if file.is_file()), key=lambda file: file.name)


def read_names(
    paths: Sequence[Traversable], where: str, errors: Errors = "strict"
) -> tuple[list[str], list[str], list[int], list[str]]:
    """Read and clean one file per class.

    Names are brought to NFC and stripped. A row is dropped if it is empty, web page navigation (:data:`JUNK`), has no
    letter, or repeats a name of its class. Trailing digits, commas, colons and semicolons are cut off, and a trailing
    slash with one character. All else stays: every script, accents, apostrophes, hyphens, spaces, full stops.

    Args:
        paths: ``<Class>.txt``, one name per line, UTF-8 with or without a byte-order mark.
        where: config key and value, the prefix of messages.
        errors: how to handle bytes that are not UTF-8.

    Returns:
        The classes, sorted; the names, each once per class; the class index of each name; notes on the cleaning.

    Raises:
        ValueError: a file is not UTF-8, has no names, or there is only one class.
        OSError: a file cannot be read.
    """
    counts: Counter[str] = Counter()
    cut: list[str] = []
    by_class: dict[str, set[str]] = {}
    for path in paths:
        label = _label(path, where)
        rows = _rows(path, where, errors)
        names = [name for row in rows if (name := _counted(row, counts, cut))]
        if not names:
            raise ValueError(f"{where}: {path.name} has no names; write one name per line, or remove it")
        counts["rows"] += len(rows)
        unique = by_class.setdefault(label, set())
        counts["duplicates"] += len(names) - len(set(names) - unique)
        unique.update(names)
    classes = sorted(by_class)
    if len(classes) < 2:
        raise ValueError(f"{where}: all names have one class, {classes[0]}; at least 2 classes are needed")
    pairs = [(name, label) for label, name_of in enumerate(classes) for name in sorted(by_class[name_of])]
    names, labels = [name for name, _ in pairs], [label for _, label in pairs]
    return classes, names, labels, _notes(counts, cut, names, len(classes))


def _rows(path: Traversable, where: str, errors: Errors) -> list[str]:
    rows = [row for row in _LINE_END.split(_decode(path, where, errors)) if row.strip()]
    if (longest := max(map(len, rows), default=0)) > MAX_LENGTH:
        raise ValueError(f"{where}: {path.name} has a row of {longest:,} characters; the limit is {MAX_LENGTH:,}")
    return rows


def _label(path: Traversable, where: str) -> str:
    try:
        return label_of(path.name.rpartition(".")[0])
    except ValueError as error:
        raise ValueError(f"{where}: the label of {path.name!r}, its name before .txt, {error}") from error


def _decode(path: Traversable, where: str, errors: Errors) -> str:
    data = read_file(path, f"{where}: {path.name}")
    if (zero := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise ValueError(f"{where}: {path.name}, line {line} has a zero byte, as in UTF-16. Save the file as UTF-8")
    try:
        return data.decode("utf-8", errors).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise ValueError(
            f"{where}: {path.name}, line {line} is not UTF-8 (byte {byte:#04x})."
            " Save the file as UTF-8, or set task.encoding_errors=replace"
        ) from error


def clean(row: str) -> str:
    """Return the name in a row, or an empty text if there is none."""
    plain = _plain(row)
    name = "" if plain.casefold() in JUNK else _STRAY.sub("", plain)
    return name if any(unicodedata.category(character)[0] == "L" for character in name) else ""


def _plain(row: str) -> str:
    return " ".join(normalise_unicode("NFC", row).split()).strip(_INVISIBLE)


def _counted(row: str, counts: Counter[str], cut: list[str]) -> str:
    name, plain = clean(row), _plain(row)
    if not name:
        counts["junk" if plain.casefold() in JUNK else "letterless"] += 1
    elif name != plain:
        cut.append(f"{plain} -> {name}")
    counts["replaced"] += "\ufffd" in name
    return name


def spelling(name: str) -> str:
    """Return what all spellings of a name have in common, up to capitals, accents, hyphens and apostrophes."""
    letters = normalise_unicode("NFKD", normalise_unicode("NFKD", name).casefold())
    return "".join(filter(_matters, letters)) or name


def _matters(character: str) -> bool:
    return not "\u0300" <= character <= "\u036f" and unicodedata.category(character)[0] not in "PZ"


def _notes(counts: Counter[str], cut: Sequence[str], names: Sequence[str], classes: int) -> list[str]:
    """Describe the cleaning."""
    dropped = [
        (counts["duplicates"], "duplicates within a class"),
        (counts["junk"], "web page navigation"),
        (counts["letterless"], "without a letter"),
    ]
    summary = f"{len(names):,} names of {classes} classes in {counts['rows']:,} rows"
    if listed := ", ".join(f"{count:,} {why}" for count, why in dropped if count):
        summary += f"; rows dropped: {listed}"
    if cut:
        summary += f"; {len(cut):,} cut: {', '.join(cut[:3])}{', ...' if len(cut) > 3 else ''}"
    notes = [summary]
    if counts["replaced"]:
        notes.append(f"names with bytes that are not UTF-8, shown as \ufffd: {counts['replaced']:,}")
    if several := sum(count > 1 for count in Counter(names).values()):
        notes.append(f"names in several classes, each in one split only: {several:,}")
    return notes
