"""Rows that cannot be read, collected into one message."""

from collections import Counter
from typing import final

_SHOWN = 20


@final
class Problems:
    """What is wrong with the rows of a file: the first 20 with their lines, all of them counted by reason.

    Args:
        where: what the message begins with: the option and its value, or the file.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.shown: list[str] = []
        self.counts: Counter[str] = Counter()
        self.advice: dict[str, None] = {}

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, line: int, reason: str, said: str, advice: str = "") -> None:
        """Take down a bad row.

        Args:
            line: its number, from 1.
            reason: what all rows of its kind have in common, such as "another number of columns".
            said: what is wrong with this one; goes behind the number of the line.
            advice: how to fix it.
        """
        self.counts[reason] += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(f"line {line:,}{said}")
        if advice:
            self.advice[advice] = None

    def check(self, further: str = "") -> None:
        """Raise if there are any.

        Args:
            further: advice that concerns the file as a whole.

        Raises:
            ValueError: one line with all of them.
        """
        if not self.counts:
            return
        advice = "; ".join([*self.advice, *([further] if further else [])])
        advice = f"; {advice}" if advice else ""
        if len(self) == 1:
            raise ValueError(f"{self.where}, {self.shown[0]}{advice}")
        first = f"the first {_SHOWN} are " if len(self) > _SHOWN else ""
        counted = ", ".join(f"{count:,} with {reason}" for reason, count in self.counts.most_common())
        raise ValueError(
            f"{self.where}: {len(self):,} rows cannot be read ({counted}): {first}{'; '.join(self.shown)}{advice}"
        )
