"""Output of the commands: lines, tables, JSON and progress bars."""

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from seqlab.io.atomic import finite

_MANY = 2_000
"""Number of items from which on a progress bar is shown."""


@final
class Output(Console):
    """Console that prints text as it is: no markup, no highlighting, no wrapping of lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    def print_line(self, text: str, style: str | None = None) -> None:
        """Print a line."""
        self.print(text, style=style, markup=False, soft_wrap=True)

    def print_table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        *,
        right: Collection[str] = (),
        title: str | None = None,
        caption: str | None = None,
    ) -> None:
        """Print a table; ``right`` are the headings of the columns that are aligned to the right."""
        table = Table(title=title and escape(title), title_justify="left", caption=caption and escape(caption))
        for name in columns:
            table.add_column(Text(name), justify="right" if name in right else "left")
        for row in rows:
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
        self.print(table)


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers that are not finite become null."""
    print(json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def progress(label: str, total: int | None = None) -> Progress:
    """Return a progress bar on stderr with one task; it is hidden in a pipe and for small totals."""
    columns = TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    hidden = not sys.stderr.isatty() or (total is not None and total < _MANY)
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden)
    bar.add_task(label, total=total)
    return bar


def shorten(text: str, most: int = 120) -> str:
    """Put a text into one printable line of at most ``most`` characters."""
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."
