"""Stratified splits of labelled examples that keep groups, such as copies of a text, together."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from seqlab.io.safe_io import normalise_unicode

SPLITS = ("train", "valid", "test")
Rare = Literal["error", "merge", "drop"]
OTHER = "other"
"""The class of the labels that are merged."""
_SHOWN = 20
"""Labels to name in a message."""
FRACTIONS = (0.8, 0.1, 0.1)
"""Training, validation and test."""


@final
class SplitError(ValueError):
    """A label cannot be in every split.

    Attributes:
        label: which one.
        groups: its number of groups.
    """

    def __init__(self, label: int, groups: int, splits: int) -> None:
        super().__init__(f"label {label} has {groups} groups of rows, too few for each of the {splits} splits")
        self.label, self.groups = label, groups


def grouped_split(
    groups: Sequence[str],
    labels: Sequence[int] | NDArray[np.int64],
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Assign rows to splits: a group stays together, and each label is split in these fractions.

    Groups are assigned in the order of a keyed hash of their names: the same on every machine and for every order of
    the rows. Groups with several labels go first, to a random split with room; groups with one label then fill each
    split exactly. Every split has at least one row of each label.

    Args:
        groups: of each row, ``[rows]``.
        labels: of each row, ``[rows]``.
        fractions: share of each split; the first one takes the rounding error.
        seed: of the assignment.

    Returns:
        The split of each row, ``[rows]``.

    Raises:
        SplitError: a label has too few groups.
    """
    contents = _contents(groups, labels)
    table = _Table(contents, fractions)
    draws = {group: draw(group, seed) for group in contents}
    order = sorted(contents, key=lambda group: (draws[group][0], group))
    alone: dict[int, list[str]] = defaultdict(list)
    for group in order:
        if len(contents[group]) == 1:
            alone[next(iter(contents[group]))].append(group)
        else:
            table.place(group, table.roomy(group, draws[group][1]))
    for label in sorted(alone):
        for group in alone[label]:
            table.place(group, table.neediest(group))
    table.repair(order)
    return np.array([table.home[group] for group in groups], dtype=np.int64)


def _contents(groups: Sequence[str], labels: Sequence[int] | NDArray[np.int64]) -> dict[str, dict[int, int]]:
    """Count the labels of each group."""
    contents: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for group, label in zip(groups, np.asarray(labels).tolist(), strict=True):
        contents[group][label] += 1
    return contents


def draw(group: str, seed: int) -> tuple[float, float]:
    """Return two numbers from 0 to 1 that depend only on the group's name and the seed."""
    digest = blake2b(group.encode("utf-8", "surrogatepass"), digest_size=16, key=str(seed).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, int.from_bytes(digest[8:], "big") / 2**64


@final
class _Table:
    """Wanted and assigned rows of each label in each split."""

    def __init__(self, contents: dict[str, dict[int, int]], fractions: Sequence[float]) -> None:
        self.contents, self.splits = contents, range(len(fractions))
        self.bounds = np.cumsum(fractions) / np.sum(fractions)
        self.home: dict[str, int] = {}
        rows: dict[int, int] = defaultdict(int)
        self.groups: dict[int, int] = defaultdict(int)
        for counts in contents.values():
            for label, count in counts.items():
                rows[label] += count
                self.groups[label] += 1
        self.wanted = {label: _shares(count, fractions) for label, count in rows.items()}
        self.have = {label: [0] * len(fractions) for label in rows}
        self.homes = {label: [0] * len(fractions) for label in rows}  # groups, where `have` counts rows
        for label in sorted(rows):
            if self.groups[label] < len(fractions):
                raise SplitError(label, self.groups[label], len(fractions))

    def place(self, group: str, split: int) -> None:
        self._add(group, split, 1)
        self.home[group] = split

    def _add(self, group: str, split: int, sign: int) -> None:
        for label, count in self.contents[group].items():
            self.have[label][split] += sign * count
            self.homes[label][split] += sign

    def roomy(self, group: str, chance: float) -> int:
        """Return the split drawn by ``chance``, or the neediest one if that split is full for a label."""
        drawn = min(int(np.searchsorted(self.bounds, chance, side="right")), len(self.bounds) - 1)
        counts = self.contents[group].items()
        room = all(self.have[label][drawn] + count <= self.wanted[label][drawn] for label, count in counts)
        return drawn if room else self.neediest(group)

    def neediest(self, group: str) -> int:
        """Return the split that lacks the largest share of its rows; splits without the label come first."""

        def need(split: int) -> tuple[int, float]:
            labels = self.contents[group]
            empty = sum(not self.have[label][split] for label in labels)
            return empty, sum(1 - self.have[label][split] / self.wanted[label][split] for label in labels)

        return max(self.splits, key=need)

    def repair(self, order: Sequence[str]) -> None:
        """Move a group to each split that lacks a label, unless it is the last group of a label in its split."""
        for label in sorted(self.have):
            for split in self.splits:
                if self.homes[label][split]:
                    continue
                movable = (group for group in order if label in self.contents[group] and self._spare(group))
                group = next(movable, None)
                if group is None:
                    raise SplitError(label, self.groups[label], len(self.splits))
                self._add(group, self.home[group], -1)
                self.place(group, split)

    def _spare(self, group: str) -> bool:
        return all(self.homes[label][self.home[group]] > 1 for label in self.contents[group])


def _shares(rows: int, fractions: Sequence[float]) -> list[int]:
    """Divide a number of rows by the fractions, at least one each; the first one takes the rounding error."""
    total = sum(fractions)
    rest = [max(1, int(rows * fraction / total + 0.5)) for fraction in fractions[1:]]
    return [max(1, rows - sum(rest)), *rest]


@final
@dataclass
class Documents:
    """Labelled texts, as read from a source.

    Attributes:
        texts: in the source's order.
        labels: of each text.
        splits: of each text, one of :data:`SPLITS`; ``None`` if the source has none. ``valid`` may be missing.
        notes: remarks on reading, for the report.
        noun: word for the texts in messages; an image is represented by its hash.
        groups: of each text, the name of what it belongs to, such as an author, if that is to be in one split; ``None``
            for a text without.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    noun: str = "texts"
    groups: list[str | None] | None = None

    def take(self, rows: Sequence[int]) -> "Documents":
        """Return some rows, in the given order."""
        splits = None if self.splits is None else [self.splits[row] for row in rows]
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        texts, labels = [self.texts[row] for row in rows], [self.labels[row] for row in rows]
        return replace(self, texts=texts, labels=labels, splits=splits, groups=groups)

    def units(self) -> list[str]:
        """Return the name of what stays in one split with each text: its copies, and the texts of its group."""
        keys = [key(text) for text in self.texts]
        if self.groups is None:
            return keys
        return list(_connected(keys, self.groups))


def _connected(keys: Sequence[str], groups: Sequence[str | None]) -> Iterator[str]:
    """Yield the least key of each row's component; rows with one key or one group are connected."""
    parents = {name: name for name in keys}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    first: dict[str, str] = {}
    for name, group in zip(keys, groups, strict=True):
        if group is not None:
            one, other = root(name), root(first.setdefault(group, name))
            parents[max(one, other)] = min(one, other)
    return map(root, keys)


@final
@dataclass(frozen=True)
class Arranged:
    """The splits of labelled texts.

    Attributes:
        classes: the labels, sorted.
        rows: by split, indices of texts.
        targets: by split, the index of each row's label in ``classes``.
        notes: remarks for the report, such as duplicates.
        merged: the labels that were merged, each with its class.
    """

    classes: list[str]
    rows: dict[str, list[int]]
    targets: dict[str, list[int]]
    notes: list[str]
    merged: dict[str, str] = field(default_factory=dict)


def arrange(
    documents: Documents, where: str, seed: int, min_count: int | None = None, rare: Rare | None = None
) -> Arranged:
    """Split texts 80 : 10 : 10, or use the splits of the source.

    Copies of a text (up to white space, capitals and Unicode normal form) are in one split: assigned together, or, with
    given splits, kept in test rather than valid, and in valid rather than train. Empty texts are skipped.

    Args:
        documents: the texts.
        where: config key and value, the prefix of messages.
        seed: of the assignment.
        min_count: fewest different texts (or groups) of a label in training; ``None`` for as many as the splits need.
        rare: how to handle labels with fewer: refuse, drop, or merge them to one class; ``None`` does not count them.

    Raises:
        ValueError: there are no texts, only one class, too few texts of a label, or none of a label in training.
    """
    notes = list(documents.notes)
    full = [row for row, text in enumerate(documents.texts) if text.strip()]
    if not full:
        raise ValueError(f"{where} contains no {documents.noun}")
    if blank := len(documents.texts) - len(full):
        _check_not_blank(documents, full, where)
        notes.append(f"empty texts skipped: {blank:,}")
        documents = documents.take(full)
    merged: dict[str, str] = {}
    if rare is not None:
        kept, documents, merged = limit_labels(documents, where, min_count, rare, notes)
        full = [full[row] for row in kept]
    splitter = _Splitter(documents, where, seed, notes)
    homes = splitter.assign() if documents.splits is None else splitter.keep(documents.splits)
    parts = {split: [row for row, home in enumerate(homes) if home == split] for split in SPLITS}
    rows = {split: [full[row] for row in part] for split, part in parts.items()}
    targets = {split: [splitter.labels[row] for row in part] for split, part in parts.items()}
    return Arranged(splitter.classes, rows, targets, notes, merged)


def _check_not_blank(documents: Documents, full: Sequence[int], where: str) -> None:
    """Refuse a given split of empty texts alone, in whose place a part of train would be taken."""
    if documents.splits is None:
        return
    left = {documents.splits[row] for row in full}
    for split in SPLITS:
        if split in documents.splits and split not in left:
            way_out = ", or leave it out to use a tenth of train" if split == "valid" else ""
            raise ValueError(f"{where}: all {documents.noun} of {split} are empty; give it others{way_out}")


def limit_labels(
    documents: Documents, where: str, min_count: int | None, rare: Rare, notes: list[str]
) -> tuple[list[int], Documents, dict[str, str]]:
    """Refuse, drop or merge the labels with too few different texts (or groups) in training.

    Returns:
        The rows that are kept, their texts, and the class of each label that was merged.

    Raises:
        ValueError: there are such labels, and ``rare`` is ``error``.
    """
    given = documents.splits
    needed = len(SPLITS) if given is None else 1 if "valid" in given else 2
    least, units = max(min_count or 0, needed), _training_units(documents)
    few = {label: len(found) for label, found in sorted(units.items()) if len(found) < least}
    everything = list(range(len(documents.texts)))
    if len(units) < 2:  # which is refused later
        return everything, documents, {}
    if rare == "error":
        few = {label: count for label, count in few.items() if count}  # those of held-out splits are refused later
        if few and (min_count is not None or given is None):
            raise ValueError(_few_message(few, least, documents, where))
        return everything, documents, {}
    rows = [row for row in everything if documents.labels[row] not in few]
    count, noun = len(everything) - len(rows), documents.noun
    if not few:
        return everything, documents, {}
    shown = _listed(few)
    if rare == "drop":
        notes.append(f"{noun} dropped whose label has fewer than {least:,} in training: {count:,} of {shown}")
        return rows, documents.take(rows), {}
    merged = set[str]().union(*(units[label] for label in (*few, OTHER) if label in units))
    if len(merged) < needed:
        what = f"{where}: merged to {OTHER!r}, {shown} have {len(merged)} different {noun} in training"
        raise ValueError(f"{what}; at least {needed} are needed. Add {noun}, or set task.rare=drop")
    notes.append(f"labels with fewer than {least:,} {noun} in training, merged to {OTHER!r}: {shown}")
    labels = [OTHER if label in few else label for label in documents.labels]
    return everything, replace(documents, labels=labels), dict.fromkeys(few, OTHER)


def _training_units(documents: Documents) -> dict[str, set[str]]:
    """Return the units of each label in training, without those of texts that are also held out."""
    splits = documents.splits or ["train"] * len(documents.texts)
    held_out = {key(text) for text, split in zip(documents.texts, splits, strict=True) if split != "train"}
    units: defaultdict[str, set[str]] = defaultdict(set)
    for unit, label, split, text in zip(documents.units(), documents.labels, splits, documents.texts, strict=True):
        units[label].update([unit] if split == "train" and key(text) not in held_out else [])
    return units


def _few_message(few: dict[str, int], least: int, documents: Documents, where: str) -> str:
    unit = documents.noun if documents.groups is None else "groups"
    why = "" if documents.splits is not None or least > len(SPLITS) else ", one each for train, valid and test"
    ways = f"Add {documents.noun}, or set task.rare=merge or task.rare=drop"
    if len(few) == 1:
        ((label, count),) = few.items()
        return f"{where}: the label {label!r} has {count} different {unit}; at least {least} are needed{why}. {ways}"
    return f"{where}: {len(few):,} labels have fewer than {least:,} different {unit}{why}: {_listed(few)}. {ways}"


def _listed(labels: dict[str, int]) -> str:
    shown = ", ".join(f"{label!r} ({count:,})" for label, count in list(labels.items())[:_SHOWN])
    return f"{shown} and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else shown


def key(text: str) -> str:
    """Return what all copies of a text have in common."""
    return " ".join(normalise_unicode("NFC", text).split()).casefold()


@final
class _Splitter:
    """Assignment of texts to splits."""

    def __init__(self, documents: Documents, where: str, seed: int, notes: list[str]) -> None:
        self.where, self.seed, self.notes, self.noun = where, seed, notes, documents.noun
        self.classes = _classes(documents, where)
        index = {label: number for number, label in enumerate(self.classes)}
        self.keys, self.units = [key(text) for text in documents.texts], documents.units()
        self.unit = documents.noun if documents.groups is None else "groups"
        self.groups = documents.groups
        self.labels = [index[label] for label in documents.labels]
        labels_of: defaultdict[str, set[int]] = defaultdict(set)
        for text, label in zip(self.keys, self.labels, strict=True):
            labels_of[text].add(label)
        if copies := len(self.keys) - len(labels_of):
            notes.append(f"duplicate {self.noun}: {copies:,}")
        if several := sum(len(labels) > 1 for labels in labels_of.values()):
            notes.append(f"{self.noun} with several labels: {several:,}")
        if documents.groups is not None:
            alone = documents.groups.count(None)
            named = f"groups that are each in one split: {len({*documents.groups} - {None}):,}"
            notes.append(f"{named}; {self.noun} without a group: {alone:,}" if alone else named)

    def assign(self) -> list[str | None]:
        """Split 80 : 10 : 10."""
        splits = self._split(range(len(self.keys)), FRACTIONS, "train, valid and test")
        return [SPLITS[split] for split in splits]

    def keep(self, splits: Sequence[str]) -> list[str | None]:
        """Keep the given splits; remove copies of a later split's texts from the earlier ones."""
        self._check_groups(splits)
        homes: list[str | None] = list(splits)
        seen: set[str] = set()
        for split in reversed(SPLITS):
            own = [row for row, given in enumerate(splits) if given == split]
            copies = [row for row in own if self.keys[row] in seen]
            for row in copies:
                homes[row] = None
            if copies:
                others = " or ".join(SPLITS[SPLITS.index(split) + 1 :])
                self.notes.append(f"{self.noun} removed from {split} that also occur in {others}: {len(copies):,}")
            seen.update(self.keys[row] for row in own)
        if "test" not in splits:
            there = ", ".join(sorted(set(splits)))
            raise ValueError(f"{self.where}: there are {self.noun} for {there}, but none for test")
        if "valid" in splits and "valid" not in homes:
            raise ValueError(
                f"{self.where}: all {self.noun} of valid are also in test; give valid others, or leave it out to use a"
                " tenth of train"
            )
        if "valid" not in splits:
            rows = [row for row, home in enumerate(homes) if home == "train"]
            parts = self._split(rows, (0.9, 0.1), "train and valid, which is taken from train")
            for row in np.asarray(rows)[parts == 1].tolist():
                homes[row] = "valid"
            self.notes.append("the source has no valid split: a tenth of train is used")
        left = {self.labels[row] for row, home in enumerate(homes) if home == "train"}
        for index, label in enumerate(self.classes):
            if index not in left:
                raise ValueError(
                    f"{self.where}: all {self.noun} of train with the label {label!r} are also in valid or test"
                )
        return homes

    def _check_groups(self, splits: Sequence[str]) -> None:
        homes: defaultdict[str, set[str]] = defaultdict(set)
        for group, split in zip(self.groups or (), splits, strict=self.groups is not None):
            if group is not None:
                homes[group].add(split)
        if several := sorted(group for group, found in homes.items() if len(found) > 1):
            raise ValueError(
                f"{self.where}: {len(several):,} groups are in several of the given splits, such as {several[0]!r};"
                " remove the given splits to split by group, or the column of the groups"
            )

    def _split(self, rows: Sequence[int], fractions: Sequence[float], names: str) -> NDArray[np.int64]:
        try:
            return grouped_split(
                [self.units[row] for row in rows], [self.labels[row] for row in rows], fractions, self.seed
            )
        except SplitError as error:
            message = f"{self.where}: the label {self.classes[error.label]!r} has {error.groups} different {self.unit}"
            if error.groups < len(fractions):
                need = f"at least {len(fractions)} are needed, one each for {names}"
                raise ValueError(f"{message}; {need}. Add {self.noun}, or remove the label") from error
            raise ValueError(f"{message}, shared with other labels: they cannot be in each of {names}") from error


def _classes(documents: Documents, where: str) -> list[str]:
    """Return the labels of the training texts, and check that no other split has more."""
    noun = documents.noun
    by_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for label, split in zip(documents.labels, documents.splits or ["train"] * len(documents.labels), strict=True):
        by_split[split][label] += 1
    classes = sorted(by_split["train"])
    for split in SPLITS[1:]:
        for label in sorted(by_split[split].keys() - by_split["train"].keys()):
            raise ValueError(
                f"{where}: the label {label!r} is in {split} ({by_split[split][label]:,} {noun}), but not in train;"
                f" add such {noun} to train, or remove them from {split}"
            )
    if len(classes) < 2:
        only = f"have one class, {classes[0]!r}" if classes else "are in other splits than train"
        raise ValueError(f"{where}: all {noun} {only}; at least 2 classes are needed")
    return classes
