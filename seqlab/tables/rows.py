"""What is asked of a file of rows, and what is known once it was read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from seqlab.tables.problems import Problems

Lines = Callable[[], Iterable[str]]
"""Begins to read a file's lines anew, with their ends and without byte-order marks; only a newline ends one."""
Row = tuple[int, dict[str, Any]]


@final
@dataclass(frozen=True)
class Check:
    """What a reader asks of a file beyond its form.

    Attributes:
        columns: raises ``ValueError`` where the columns of a table are not those it needs.
        row: takes down what is wrong with a row: the number of its line, its values by column, the list of problems.
        label: the column with the labels, if there is one.
    """

    columns: Callable[[Sequence[str]], None] = lambda _: None
    row: Callable[[int, Mapping[str, Any], Problems], None] = lambda *_: None
    label: str | None = None


@final
@dataclass(frozen=True)
class Rows:
    """A file of rows that was read once from end to end, so that no later row can be a surprise.

    Attributes:
        columns: their names, in order; of JSON lines all that occur.
        count: rows, the header not counted.
        notes: what a reader should know of how it was read.
        plain: whether no field and no column's name has a tab or a line end in it.
        read: begins to read anew: the number of the line where each row begins, and its values by column.
    """

    columns: tuple[str, ...]
    count: int
    notes: tuple[str, ...]
    plain: bool
    read: Callable[[], Iterator[Row]]


def breaks(field: str) -> bool:
    """Say whether a table without quotes cannot hold a field."""
    return "\t" in field or "\n" in field or "\r" in field
