"""``plugins``: the installed plugins by kind, and what is broken."""

import json
import os
import shutil
import sys

from rich.cells import cell_len

from seqlab.discovery.config import CLASSES, node_type, plugin_class
from seqlab.discovery.registry import KINDS, Plugin, plugins
from seqlab.discovery.signature import summary
from seqlab.errors import UserError
from seqlab.verbs.help import plain
from seqlab.verbs.parser import Parser

OWN = "seqlab"
_NARROWEST = 40


def main(arguments: list[str]) -> int:
    """Print one line a plugin; a broken plugin shows its cause and breaks nothing else."""
    parser = Parser(
        "plugins",
        description="List the installed plugins: name, distribution where it is not seqlab, and description. "
        "Descriptions are cut to the width of a terminal, and whole in a pipe.",
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, help="only this kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    rows = [_row(plugin) for kind in KINDS if asked.kind in (None, kind) for plugin in plugins(kind).values()]
    if asked.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(table(rows, _width())))
    return 0


def _width() -> int | None:
    """Return the columns of the terminal, or those that ``COLUMNS`` says; ``None`` in a pipe."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def table(rows: list[dict[str, str]], width: int | None) -> list[str]:
    """Lay plugins out, one line each, under the name of their kind.

    Args:
        rows: as :func:`_row` makes them.
        width: columns that a line may have; longer descriptions end in ``…`` at a word. The cause of a broken plugin is
            never cut.
    """
    names = {_key(row): _named(row) for row in rows}
    column = max(map(cell_len, names.values()), default=0)
    if width is not None:
        column = min(column, width // 3)
    own = sorted({row["version"] for row in rows if row["distribution"] == OWN})
    lines = [f"of {OWN} {', '.join(own)}, where no other distribution is named"] if own else []
    kind = None
    for row in rows:
        if row["kind"] != kind:
            kind = row["kind"]
            lines += [*([""] if lines else []), kind]
        name = names[_key(row)]
        begin = f"  {name}{' ' * (column - cell_len(name))}  "
        if row["problem"]:
            lines.append(f"{begin}broken: {row['problem']}")
        else:
            lines.append(f"{begin}{_cut(plain(row['description']), width, begin)}".rstrip())
    return lines


def _key(row: dict[str, str]) -> tuple[str, str]:
    return row["kind"], row["name"]


def _named(row: dict[str, str]) -> str:
    return row["name"] if row["distribution"] == OWN else f"{row['name']} ({row['distribution']} {row['version']})"


def _cut(text: str, width: int | None, begin: str) -> str:
    """Cut a text at a word so that it fits behind what stands before it."""
    if width is None or cell_len(begin + text) <= width:
        return text
    room = max(8, width - cell_len(begin) - 1)
    while text and cell_len(text) > room:
        shorter = text.rpartition(" ")[0]
        text = shorter or text[: max(1, len(text) - 1)]
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
