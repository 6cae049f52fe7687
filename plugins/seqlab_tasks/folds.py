"""Cross-validation: folds of labelled examples that keep groups, such as copies of a text, on one side."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import check_range
from seqlab_tasks.splitting import SPLITS, Arranged, SplitError, draw, grouped_split

_HELD_OUT = (0.9, 0.1)
"""Training and validation, of the rows of the other folds."""


@final
@dataclass(frozen=True)
class Folds:
    """The folds of a run.

    Attributes:
        count: number of folds; ``None`` for one division into train, valid and test.
        fold: whose rows are the test split.
        refit: whether all rows are trained on.
    """

    count: int | None = None
    fold: int | None = None
    refit: bool = False

    def check(self) -> None:
        """Check the options of a task.

        Raises:
            ValueError: one is out of range, or two contradict each other.
        """
        if self.count is None:
            for name, given in (("fold", self.fold is not None), ("refit", self.refit)):
                if given:
                    value = "true" if name == "refit" else self.fold
                    raise ValueError(f"{name}={value} needs folds, the number of folds; set folds=5, or remove {name}")
            return
        check_range("folds", self.count, 2)
        if self.fold is not None:
            check_range("fold", self.fold, 0, self.count - 1)
            if self.refit:
                raise ValueError(f"refit=true trains on all rows, but fold={self.fold}; remove one of them")

    def divide(
        self, units: Sequence[str], labels: Sequence[int] | NDArray[np.int64], seed: int
    ) -> dict[str, list[int]]:
        """Return the rows of each split.

        The test split is a fold; a tenth of the other rows is for validation. With ``refit`` all rows are in train, and
        a tenth of them also in valid and test, where their scores estimate nothing.

        Args:
            units: of each row, the name of what stays in one split.
            labels: of each row.
            seed: of the assignment.

        Raises:
            SplitError: a label has too few units for a row in every fold.
            ValueError: no fold is chosen.
        """
        assert self.count is not None
        if self.fold is None and not self.refit:
            raise ValueError(
                f"task.folds={self.count} has no task.fold; train without -m to run all folds, "
                f"or set task.fold, 0 to {self.count - 1}"
            )
        homes = assign_folds(units, labels, self.count, seed)
        each = np.asarray(labels)
        if self.count == 2:  # the other fold is divided into train and valid
            _check_pairs(units, each, homes)
        rest = np.flatnonzero(homes != self.fold) if self.fold is not None else np.arange(len(homes))
        parts = grouped_split([units[row] for row in rest.tolist()], each[rest], _HELD_OUT, seed)
        valid = rest[parts == 1].tolist()
        if self.refit:
            return {"train": rest.tolist(), "valid": valid, "test": valid}
        return {
            "train": rest[parts == 0].tolist(),
            "valid": valid,
            "test": np.flatnonzero(homes == self.fold).tolist(),
        }

    def arrange(self, found: Arranged, units: Mapping[int, str], where: str, seed: int) -> Arranged:
        """Divide texts that :func:`.arrange` has divided, by folds.

        Args:
            found: its result.
            units: of each text in it, by its row, the name of what stays in one split.
            where: config key and value, the prefix of messages.
            seed: of the assignment.

        Raises:
            ValueError: a label has too few different texts, or no fold is chosen.
        """
        pairs = sorted(
            (row, target)
            for split in SPLITS
            for row, target in zip(found.rows[split], found.targets[split], strict=True)
        )
        try:
            parts = self.divide([units[row] for row, _ in pairs], [target for _, target in pairs], seed)
        except SplitError as error:
            raise ValueError(self.explain(error, f"{where}: the label {found.classes[error.label]!r}")) from error
        rows = {split: [pairs[index][0] for index in parts[split]] for split in SPLITS}
        targets = {split: [pairs[index][1] for index in parts[split]] for split in SPLITS}
        return replace(found, rows=rows, targets=targets, notes=[*found.notes, *self.notes()])

    def explain(self, error: SplitError, what: str) -> str:
        """Return the message for a label that cannot be in every fold."""
        least = "4" if self.count == 2 else f"{self.count}"
        return (
            f"{what} has {error.groups} different examples, too few for each of task.folds={self.count}; "
            f"at least {least} are needed, which no other label shares. Add examples, or use fewer folds"
        )

    def notes(self) -> list[str]:
        """Say which rows are in the test split."""
        if self.refit:
            return ["all rows are in train: the scores of this run estimate nothing; those of the folds do"]
        return [f"test is fold {self.fold} of {self.count} (0 to {(self.count or 0) - 1})"]


def _check_pairs(units: Sequence[str], labels: NDArray[np.int64], homes: NDArray[np.int64]) -> None:
    """Check that each of two folds has two units of each label."""
    for label in np.unique(labels).tolist():
        own = [{units[row] for row in np.flatnonzero((labels == label) & (homes == fold)).tolist()} for fold in (0, 1)]
        if min(map(len, own)) < 2:
            raise SplitError(label, len(own[0] | own[1]), 2)


def assign_folds(
    units: Sequence[str], labels: Sequence[int] | NDArray[np.int64], folds: int, seed: int = 0
) -> NDArray[np.int64]:
    """Assign rows to folds: a unit stays together, and each label is divided as evenly as units allow.

    Units with the most rows go first, equal ones in the order of a keyed hash of their names, each to the fold with the
    fewest rows of its labels, then with the fewest rows. With units of one row, the folds of a label differ by one row
    at most.

    Args:
        units: of each row, ``[rows]``.
        labels: of each row, ``[rows]``.
        folds: number of folds; at least 2.
        seed: of the assignment.

    Returns:
        The fold of each row, ``[rows]``.

    Raises:
        SplitError: a fold has no row of a label.
    """
    contents: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for unit, label in zip(units, np.asarray(labels).tolist(), strict=True):
        contents[unit][label] += 1
    draws = {unit: draw(unit, seed) for unit in contents}
    order = sorted(contents, key=lambda unit: (-contents[unit].total(), draws[unit], unit))
    have: defaultdict[int, list[int]] = defaultdict(lambda: [0] * folds)
    total, home = [0] * folds, dict[str, int]()
    for unit in order:
        counts = contents[unit]
        chosen = min(range(folds), key=lambda fold: (sum(have[label][fold] for label in counts), total[fold]))
        home[unit] = chosen
        total[chosen] += counts.total()
        for label, count in counts.items():
            have[label][chosen] += count
    for label in sorted(have):
        if not all(have[label]):
            raise SplitError(label, sum(label in counts for counts in contents.values()), folds)
    return np.array([home[unit] for unit in units], dtype=np.int64)
