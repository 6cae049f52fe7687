"""The task: names in, languages out."""

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
import torch

from seqlab import Examples
from seqlab_tasks.classification import Balance, Classification
from seqlab_tasks.names.reading import NameList, read_names, spelling
from seqlab_tasks.names.sources import bundled, folder_of, tutorial
from seqlab_tasks.splitting import SplitError, grouped_split

SPLITS = ("train", "valid", "test")


@final
class Names(Classification, preprocessing="characters"):
    """Tell the language of a name from its letters.

    Names are cleaned, and each kept once a language. All that share a name (capitals, accents, hyphens and apostrophes
    set aside) are in one split, whatever their languages; each language is dealt out 80 : 10 : 10.

    Args:
        source: ``bundled``, 18 languages that come with seqlab, or ``pytorch-tutorial``, 20,074 rows of the same
            languages, downloaded once.
        data_dir: a folder of ``<Language>.txt``, one name a line, in any script; wins over ``source``.
        split_seed: another one deals names out to the splits anew; ``seed`` does not.
        sequence_length: characters that are read of a name, at most; null reads all.
        balance: what is done about languages of unequal size: ``none``, ``weights`` in the loss, or ``sampling``
            rare ones more often.
        balance_power: how much: weights are the count to the power of minus this; 1 makes all languages equal.
        label_smoothing: share of the target that is spread over all languages.
        encoding_errors: what to do with bytes that are not UTF-8: ``strict`` refuses, ``replace`` shows U+FFFD.

    Raises:
        ValueError: an option is out of its range.
    """

    noun = ("language", "languages")

    def __init__(
        self,
        source: Literal["bundled", "pytorch-tutorial"] = "bundled",
        data_dir: str | None = None,
        split_seed: int = 0,
        sequence_length: int | None = None,
        balance: Balance = "none",
        balance_power: float = 0.8,
        label_smoothing: float = 0.0,
        encoding_errors: Literal["strict", "replace"] = "strict",
    ) -> None:
        super().__init__(sequence_length, balance, balance_power, label_smoothing)
        if source not in ("bundled", "pytorch-tutorial"):
            raise ValueError(f"source is {source!r}; it must be one of bundled, pytorch-tutorial")
        if encoding_errors not in ("strict", "replace"):
            raise ValueError(f"encoding_errors is {encoding_errors!r}; it must be one of strict, replace")
        if data_dir == "":
            raise ValueError("data_dir is empty; it must name a folder, or be null")
        self.source, self.data_dir, self.encoding_errors = source, data_dir, encoding_errors
        self.split_seed = split_seed

    def splits(self) -> Mapping[str, Examples]:
        """Read, clean and split the names.

        Raises:
            ValueError, OSError: the names cannot be had, or a language has too few; the message says what to do.
        """
        found = self._read()
        try:
            where = grouped_split([spelling(name) for name in found.names], found.labels, seed=self.split_seed)
        except SplitError as error:
            raise ValueError(self._too_few(found, error)) from error
        targets = torch.tensor(found.labels)
        made = {}
        for index, split in enumerate(SPLITS):
            rows = np.flatnonzero(where == index).tolist()
            made[split] = Examples([found.names[row] for row in rows], targets[rows])
        self.learn_classes(found.classes, made["train"].targets)
        self.notes = found.cleaning
        return made

    def _where(self) -> str:
        return f"task.source={self.source}" if self.data_dir is None else f"task.data_dir={self.data_dir}"

    def _read(self) -> NameList:
        if self.data_dir is not None:
            files = folder_of(self.data_dir)
        else:
            files = bundled() if self.source == "bundled" else tutorial()
        return read_names(files, self._where(), self.encoding_errors)

    def _too_few(self, found: NameList, error: SplitError) -> str:
        label = found.classes[error.label]
        message = f"{self._where()}: {label}.txt has {error.groups} different names"
        if error.groups < len(SPLITS):
            message += f"; at least {len(SPLITS)} are needed, one each for train, valid and test"
        else:
            message += ", which it shares with other files, so that they cannot be in each of train, valid and test"
        return f"{message}. Add names, or take the file away"
