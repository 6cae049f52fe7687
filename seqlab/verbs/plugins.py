"""``plugins``: the installed plugins by kind, and what is broken."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import groupby

from rich.cells import cell_len

from seqlab.discovery.config import CLASSES, node_type, plugin_class
from seqlab.discovery.registry import KINDS, Plugin, plugins
from seqlab.discovery.signature import summary
from seqlab.errors import UserError
from seqlab.verbs.help import plain
from seqlab.verbs.parser import Parser

OWN = "seqlab"
_PIPE, _NARROWEST = 80, 40


def main(arguments: list[str]) -> int:
    """Print one line per plugin; a broken plugin shows its cause and breaks nothing else."""
    parser = Parser(
        "plugins",
        description="List the installed plugins by kind: name and description, and the distribution where it is not "
        "seqlab. A line fits the terminal, or 80 columns in a pipe; --json prints everything.",
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, help="only this kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    rows = [_row(plugin) for kind in KINDS if asked.kind in (None, kind) for plugin in plugins(kind).values()]
    if asked.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print("\n".join(table(rows, _width())))
    return 0


def _width() -> int:
    """Return the columns of the terminal, those of ``COLUMNS``, or 80 in a pipe."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return _PIPE
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def table(rows: list[dict[str, str]], width: int) -> Iterator[str]:
    """Yield the lines of a table with one line per plugin, grouped by kind.

    Args:
        rows: as :func:`_row` returns them.
        width: maximum columns of a line. A longer description ends before its first parenthesis, which has the source,
            or in ``…`` after a word; the cause of a broken plugin is never cut.
    """
    for version in sorted({row["version"] for row in rows if row["distribution"] == OWN}):
        yield f"{OWN} {version}, unless another distribution is named"
    for kind, group in groupby(rows, lambda row: row["kind"]):
        yield from ("", kind)
        entries = list(group)
        column = min(max(cell_len(row["name"]) for row in entries), width // 3)
        for row in entries:
            begin = f"  {row['name']}{' ' * (column - cell_len(row['name']))}  "
            if row["distribution"] != OWN:
                begin += f"[{row['distribution']} {row['version']}] "
            if row["problem"]:
                yield f"{begin}broken: {row['problem']}"
            else:
                yield f"{begin}{_cut(plain(row['description']), width - cell_len(begin))}".rstrip()


def _cut(text: str, room: int) -> str:
    """Shorten a text so that it fits."""
    for whole in (text, text.partition(" (")[0]):
        if cell_len(whole) <= room:
            return whole
    while text and cell_len(text) >= max(room, 8):
        text = text.rpartition(" ")[0] or text[:-1]
    return text.rstrip(" ,;:(") + "…"


def _row(plugin: Plugin) -> dict[str, str]:
    description, problem = "", ""
    try:
        if plugin.kind in CLASSES:
            description = summary(plugin_class(plugin.kind, plugin.name))
            if plugin.kind != "kernel":
                node_type(plugin.kind, plugin.name)
        else:
            description = summary(plugin.load())
    except UserError as error:
        problem = str(error)
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "description": description,
        "problem": problem,
    }
