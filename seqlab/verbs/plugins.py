"""``plugins``: what is plugged in, by whom, and what is broken."""

import argparse
import json

from rich.console import Console
from rich.table import Table

from seqlab.discovery.config import CLASSES, node_type, plugin_class
from seqlab.discovery.registry import KINDS, Plugin, plugins
from seqlab.discovery.signature import summary
from seqlab.errors import UserError


def main(arguments: list[str]) -> int:
    """Print the table; a broken plugin shows its cause and breaks nothing else."""
    parser = argparse.ArgumentParser("seqlab plugins", description="List what is plugged in.")
    parser.add_argument("kind", nargs="?", choices=KINDS, help="only this kind")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args(arguments)
    rows = [_row(plugin) for kind in KINDS if asked.kind in (None, kind) for plugin in plugins(kind).values()]
    if asked.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    table = Table("kind", "name", "distribution", "version", "what it is")
    for row in rows:
        what = row["description"] if not row["problem"] else f"[red]broken:[/red] {row['problem']}"
        table.add_row(row["kind"], row["name"], row["distribution"], row["version"], what)
    Console().print(table)
    return 0


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
