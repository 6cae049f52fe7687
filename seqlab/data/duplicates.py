"""Examples of one split that another split has as well once they are encoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

_WORTH_A_NOTE = 0.01
"""Share of a held-out split from which on its duplicates can move a score by more than its standard error."""


def count_duplicates(digests: Mapping[str, list[bytes]]) -> dict[str, int]:
    """Count the examples that occur before in their split, and those of a split that occur in an earlier one.

    Args:
        digests: of each split, in order, as :meth:`seqlab.contracts.Ragged.digests` gives them.

    Returns:
        Counts by ``"within train"``, ``"valid in train"``, ``"test in train"`` and so on.
    """
    known = {name: set(split) for name, split in digests.items()}
    found = {f"within {name}": len(split) - len(known[name]) for name, split in digests.items()}
    names = list(digests)
    for index, name in enumerate(names):
        for earlier in names[:index]:
            found[f"{name} in {earlier}"] = sum(digest in known[earlier] for digest in digests[name])
    return found


@final
@dataclass(frozen=True)
class DuplicateReport:
    """Which examples of a split another one has as well.

    Attributes:
        kept: row indices of the splits of which some are left out.
        same: examples of each held-out split that equal one of training, after that.
        notes: what was left out, for a reader.
    """

    kept: dict[str, Tensor]
    same: dict[str, int]
    notes: list[str]


def find_duplicates(digests: Mapping[str, list[bytes]], *, drop: bool = False) -> DuplicateReport:
    """Look for examples that several splits have.

    Args:
        digests: of each split, ``train``, ``valid`` and ``test`` among them.
        drop: leave out of training what any later split has, and of validation what any test split has.

    Raises:
        ValueError: a split has nothing else.
    """
    found = dict(digests)
    kept: dict[str, Tensor] = {}
    notes = []
    held_out = {digest for name, split in digests.items() if name not in ("train", "valid") for digest in split}
    for name in ("valid", "train") if drop else ():
        rows = [row for row, digest in enumerate(digests[name]) if digest not in held_out]
        if not rows:
            raise ValueError(f"data.duplicates=drop leaves nothing of {name}: later splits have all of it")
        held_out |= set(digests[name])
        if count := len(digests[name]) - len(rows):
            kept[name], found[name] = torch.tensor(rows), [digests[name][row] for row in rows]
            notes.append(f"{name}: {count:,} examples left out that later splits have too after preprocessing")
    known = set(found["train"])
    same = {name: sum(each in known for each in split) for name, split in found.items() if name != "train"}
    return DuplicateReport(kept, same, notes)


def duplicate_notes(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which held-out splits share enough examples with training to raise their scores."""
    lines = []
    for split, facts in statistics.items():
        same = facts.get("same_as_train", 0)
        if same > _WORTH_A_NOTE * facts["examples"]:
            lines.append(
                f"{split}: {same:,} of {facts['examples']:,} examples equal a training example after preprocessing,"
                " so that memorising raises the score; data.duplicates=drop takes such examples out of train"
            )
    return lines
