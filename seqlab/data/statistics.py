"""Statistics of encoded splits: lengths, truncation, unknown tokens and duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from seqlab.contracts import Ragged

_DUPLICATES_TO_REPORT = 0.01
"""Share of a held-out split from which on its duplicates can change a score by more than its standard error."""

_UNKNOWN_TO_REPORT = 1 / 3
"""Share of unknown tokens in a held-out split from which on the vocabulary does not fit the text."""


def split_statistics(inputs: Ragged, limit: int | None, unknown_id: int | None) -> dict[str, Any]:
    """Return lengths, the share of truncated sequences and the share of unknown tokens of a split.

    Args:
        inputs: all sequences of the split, before truncation.
        limit: maximum number of steps that are read of a sequence; ``None`` reads all.
        unknown_id: token id of what is not in the vocabulary; ``None`` where there is none.
    """
    lengths = inputs.lengths
    quantiles = torch.quantile(lengths.double(), torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0], dtype=torch.float64))
    names = ("shortest", "5 %", "median", "95 %", "longest")
    statistics: dict[str, Any] = {
        "examples": len(lengths),
        "steps": int(lengths.sum()),
        "length": {name: round(value) for name, value in zip(names, quantiles.tolist(), strict=True)},
        "share_truncated": 0.0 if limit is None else (lengths > limit).float().mean().item(),
    }
    if unknown_id is not None:
        unknown = inputs.values == unknown_id
        statistics["share_unknown"] = unknown.float().mean().item() if len(unknown) else 0.0
    return statistics


def format_statistics(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each split."""
    lines = []
    for split, row in statistics.items():
        if "tokens" in row:
            share = f"{row['share_unknown']:.2%}"
            lines.append(f"{split}: {row['tokens']:,} tokens of {row['bytes']:,} bytes; unknown {share}")
            continue
        lengths = ", ".join(f"{name} {value}" for name, value in row["length"].items())
        line = f"{split}: {row['examples']:,} examples, {row['steps']:,} steps; length {lengths}"
        line += f"; truncated {row['share_truncated']:.1%}"
        if "share_unknown" in row:
            line += f"; unknown {row['share_unknown']:.2%}"
        if "dropped" in row:
            line += "; dropped " + ", ".join(f"{count:,} ({reason})" for reason, count in row["dropped"].items())
        lines.append(line)
    return lines


def count_duplicates(digests: Mapping[str, list[bytes]]) -> dict[str, int]:
    """Count repeated examples within each split, and examples of each split that occur in an earlier one.

    Args:
        digests: of each split, in order, as :meth:`seqlab.contracts.Ragged.digests` gives them.

    Returns:
        Counts by ``"within train"``, ``"valid in train"``, ``"test in train"`` and so on.
    """
    known = {name: set(split) for name, split in digests.items()}
    counts = {f"within {name}": len(split) - len(known[name]) for name, split in digests.items()}
    names = list(digests)
    for index, name in enumerate(names):
        for earlier in names[:index]:
            counts[f"{name} in {earlier}"] = sum(digest in known[earlier] for digest in digests[name])
    return counts


@final
@dataclass(frozen=True)
class Duplicates:
    """Examples that occur in several splits.

    Attributes:
        kept: indices of the rows to keep, of each split that has rows to drop.
        same: number of examples of each held-out split that equal a training example, after dropping.
        notes: what was dropped, for the user.
    """

    kept: dict[str, Tensor]
    same: dict[str, int]
    notes: list[str]


def find_duplicates(digests: Mapping[str, list[bytes]], *, drop: bool = False) -> Duplicates:
    """Find examples that occur in several splits.

    Args:
        digests: of each split, ``train``, ``valid`` and ``test`` among them.
        drop: drop training examples that any later split has, and validation examples that any test split has.

    Raises:
        ValueError: no example of a split is left.
    """
    left = dict(digests)
    kept: dict[str, Tensor] = {}
    notes = []
    held_out = {digest for name, split in digests.items() if name not in ("train", "valid") for digest in split}
    for name in ("valid", "train") if drop else ():
        rows = [row for row, digest in enumerate(digests[name]) if digest not in held_out]
        if not rows:
            raise ValueError(f"data.duplicates=drop leaves nothing of {name}: later splits have all its examples")
        held_out |= set(digests[name])
        if count := len(digests[name]) - len(rows):
            kept[name], left[name] = torch.tensor(rows), [digests[name][row] for row in rows]
            notes.append(f"{name}: {count:,} examples dropped that later splits have, too, after preprocessing")
    known = set(left["train"])
    same = {name: sum(digest in known for digest in split) for name, split in left.items() if name != "train"}
    return Duplicates(kept, same, notes)


def duplicate_notes(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note for each held-out split that shares enough examples with training to raise its score."""
    return [
        f"{split}: {same:,} of {row['examples']:,} examples equal a training example after preprocessing, so that "
        "memorising raises the score; data.duplicates=drop drops such examples from train"
        for split, row in statistics.items()
        if (same := row.get("same_as_train", 0)) > _DUPLICATES_TO_REPORT * row["examples"]
    ]


def unknown_notes(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note where a third or more of a held-out split's tokens are unknown, as in scripts without spaces."""
    shares = {name: row.get("share_unknown", 0.0) for name, row in statistics.items() if name in ("valid", "test")}
    name = max(shares, key=lambda name: shares[name], default="")
    if shares.get(name, 0.0) < _UNKNOWN_TO_REPORT:
        return []
    return [
        f"{name}: {shares[name]:.0%} of the tokens are not in the vocabulary, so that the model cannot tell them apart;"
        " preprocessing=characters or preprocessing=bpe reads such a text, as in a script without spaces"
    ]
