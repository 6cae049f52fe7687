"""Images with labels, each kept once."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from seqlab_tasks.textclf.documents import Arranged, Documents, arrange


@final
@dataclass
class Images:
    """Grey images of one size, and their labels, as a source has them.

    Attributes:
        pixels: from 0 to 1, ``[count, height, width]``.
        labels: of each image.
        splits: of each image; ``None`` where the source has none. ``valid`` may be missing.
        notes: what happened on the way here, for a reader.
    """

    pixels: NDArray[Any]
    labels: list[str]
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)


@final
@dataclass(frozen=True)
class Dealt:
    """Images in their splits.

    Attributes:
        pixels: from 0 to 1, ``[count, height, width]``.
        classes: the labels: numbers by value, others by letters.
        rows: of ``pixels``, by split.
        targets: the index of each row's label, by split.
        notes: what a reader should know.
    """

    pixels: NDArray[np.float32]
    classes: list[str]
    rows: dict[str, list[int]]
    targets: dict[str, list[int]]
    notes: list[str]


def deal(found: Images, where: str, seed: int) -> Dealt:
    """Deal images out 80 : 10 : 10 by class, or take the splits that the source gives.

    An image that occurs again with the same label is kept once (once a split, where splits are given); one with several
    labels is in one split with all of them. Where splits are given, what test (or valid) has is taken out of train.

    Raises:
        ValueError: all are of one class, a label has too few, or training lacks one.
    """
    pixels = found.pixels.astype(np.float32)
    names = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    splits = found.splits or [""] * len(names)
    first = dict(reversed([(key, row) for row, key in enumerate(zip(names, found.labels, splits, strict=True))]))
    kept = sorted(first.values())
    documents = Documents(names, found.labels, found.splits, list(found.notes), noun="images").take(kept)
    if copies := len(names) - len(kept):
        documents.notes.append(f"copies of images, left out: {copies:,}")
    arranged = arrange(documents, where, seed)
    row_of = {name: row for row, name in reversed(list(enumerate(names)))}
    rows = {split: [row_of[name] for name in texts] for split, texts in arranged.texts.items()}
    classes = sorted(
        arranged.classes, key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)
    )
    return Dealt(pixels, classes, rows, _renumbered(arranged, classes), arranged.notes)


def _renumbered(arranged: Arranged, classes: list[str]) -> dict[str, list[int]]:
    place = {label: index for index, label in enumerate(classes)}
    number = [place[label] for label in arranged.classes]
    return {split: [number[target] for target in targets] for split, targets in arranged.targets.items()}
