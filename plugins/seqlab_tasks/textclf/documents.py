"""Texts with labels, and how they are dealt out to the splits."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from seqlab.io.safe_io import normalise_unicode
from seqlab_tasks.splitting import SplitError, grouped_split

SPLITS = ("train", "valid", "test")


@final
@dataclass
class Documents:
    """Texts and their labels, as a source has them.

    Attributes:
        texts: in the source's order.
        labels: of each text.
        splits: of each text, one of :data:`SPLITS`; ``None`` where the source has none. ``valid`` may be missing.
        notes: what happened on the way here, for a reader.
        noun: what they are called in what a reader sees; a picture goes by a text that stands for it.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    noun: str = "texts"

    def take(self, rows: Sequence[int]) -> "Documents":
        """Take some rows, in the given order."""
        splits = None if self.splits is None else [self.splits[row] for row in rows]
        return Documents(
            [self.texts[row] for row in rows], [self.labels[row] for row in rows], splits, self.notes, self.noun
        )


@final
@dataclass(frozen=True)
class Arranged:
    """Texts in their splits.

    Attributes:
        classes: the labels, sorted.
        texts: by split.
        targets: by split, the index of each text's label in ``classes``.
        notes: what a reader should know: texts left out, duplicates.
    """

    classes: list[str]
    texts: dict[str, list[str]]
    targets: dict[str, list[int]]
    notes: list[str]


def arrange(found: Documents, where: str, seed: int) -> Arranged:
    """Deal texts out 80 : 10 : 10, or take the splits that the source gives.

    Copies of a text (white space, capitals and Unicode normal form set aside) are on one side: dealt out together, or,
    where splits are given, kept in test before valid, and in valid before train. Texts of blanks alone are left out.

    Args:
        found: what was read.
        where: what an error begins with: the config key and its value.
        seed: another one deals anew.

    Raises:
        ValueError: there are no texts, all are of one class, a label has too few, or training lacks one.
    """
    notes = list(found.notes)
    full = [row for row, text in enumerate(found.texts) if text.strip()]
    if blank := len(found.texts) - len(full):
        notes.append(f"texts of blanks alone, left out: {blank:,}")
        found = found.take(full)
    if not found.texts:
        raise ValueError(f"{where} holds no {found.noun}")
    classes = _classes(found, where)
    number = {label: index for index, label in enumerate(classes)}
    keys = [key(text) for text in found.texts]
    labels = [number[label] for label in found.labels]
    notes += _copies(keys, labels, found.noun)
    if found.splits is None:
        homes: Sequence[str | None] = _dealt(keys, labels, classes, where, seed, found.noun)
    else:
        homes = _given(keys, labels, found.splits, classes, where, seed, notes, found.noun)
    rows = {split: [row for row, home in enumerate(homes) if home == split] for split in SPLITS}
    return Arranged(
        classes,
        {split: [found.texts[row] for row in rows[split]] for split in SPLITS},
        {split: [labels[row] for row in rows[split]] for split in SPLITS},
        notes,
    )


def key(text: str) -> str:
    """Give what the copies of one text share."""
    return " ".join(normalise_unicode("NFC", text).split()).casefold()


def _classes(found: Documents, where: str) -> list[str]:
    """List the labels of the texts that can be trained on, and see that no others have more."""
    if found.splits is None:
        classes = sorted(set(found.labels))
    else:
        by_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        for label, split in zip(found.labels, found.splits, strict=True):
            by_split[split][label] += 1
        classes = sorted(by_split["train"])
        for split in SPLITS[1:]:
            for label in sorted(by_split[split].keys() - by_split["train"].keys()):
                count = f"{by_split[split][label]:,} {found.noun}"
                raise ValueError(
                    f"{where}: the label {label!r} is in {split} ({count}), but not in train,"
                    f" so that nothing can learn it; add such {found.noun} to train, or take them out of {split}"
                )
    if len(classes) < 2:
        only = f"of one class, {classes[0]!r}" if classes else "in other splits than train"
        raise ValueError(f"{where}: all {found.noun} are {only}; there must be at least 2 classes to tell apart")
    return classes


def _copies(keys: Sequence[str], labels: Sequence[int], noun: str) -> list[str]:
    """Tell of copies that do not matter for the splits."""
    said: defaultdict[str, set[int]] = defaultdict(set)
    for text, label in zip(keys, labels, strict=True):
        said[text].add(label)
    notes = []
    if copies := len(keys) - len(said):
        notes.append(f"{noun} that are copies of others: {copies:,}")
    if several := sum(len(found) > 1 for found in said.values()):
        notes.append(f"{noun} with several labels: {several:,}")
    return notes


def _dealt(
    keys: Sequence[str], labels: Sequence[int], classes: Sequence[str], where: str, seed: int, noun: str
) -> list[str]:
    try:
        return [SPLITS[split] for split in grouped_split(keys, labels, seed=seed)]
    except SplitError as error:
        raise ValueError(_too_few(error, classes, where, len(SPLITS), "train, valid and test", noun)) from error


def _given(
    keys: Sequence[str],
    labels: Sequence[int],
    splits: Sequence[str],
    classes: Sequence[str],
    where: str,
    seed: int,
    notes: list[str],
    noun: str,
) -> list[str | None]:
    """Keep the given splits; a text that a later split has as well is taken out of the earlier ones."""
    homes: list[str | None] = list(splits)
    taken: set[str] = set()
    for split in reversed(SPLITS):
        own = [row for row, given in enumerate(splits) if given == split]
        doubles = [row for row in own if keys[row] in taken]
        for row in doubles:
            homes[row] = None
        if doubles:
            others = " or ".join(SPLITS[SPLITS.index(split) + 1 :])
            notes.append(f"taken out of {split}, as {others} has them too: {len(doubles):,} {noun}")
        taken.update(keys[row] for row in own)
    if "test" not in splits:
        raise ValueError(f"{where}: there are {noun} for {', '.join(sorted(set(splits)))}, but none for test")
    if "valid" not in splits:
        _deal_valid(homes, keys, labels, classes, where, seed, noun)
        notes.append("there is no valid: a tenth of train was dealt out for it")
    left = {labels[row] for row, home in enumerate(homes) if home == "train"}
    for index, label in enumerate(classes):
        if index not in left:
            raise ValueError(f"{where}: all {noun} of train with the label {label!r} are in valid or test as well")
    return homes


def _deal_valid(
    homes: list[str | None],
    keys: Sequence[str],
    labels: Sequence[int],
    classes: Sequence[str],
    where: str,
    seed: int,
    noun: str,
) -> None:
    rows = [row for row, home in enumerate(homes) if home == "train"]
    try:
        parts = grouped_split([keys[row] for row in rows], [labels[row] for row in rows], (0.9, 0.1), seed)
    except SplitError as error:
        raise ValueError(
            _too_few(error, classes, where, 2, "train and the valid that is taken from it", noun)
        ) from error
    for row in np.asarray(rows)[parts == 1].tolist():
        homes[row] = "valid"


def _too_few(error: SplitError, classes: Sequence[str], where: str, splits: int, names: str, noun: str) -> str:
    message = f"{where}: the label {classes[error.label]!r} has {error.groups} different {noun}"
    if error.groups < splits:
        return f"{message}; at least {splits} are needed, one each for {names}. Add {noun}, or take the label out"
    return f"{message}, which it shares with other labels, so that they cannot be in each of {names}"
