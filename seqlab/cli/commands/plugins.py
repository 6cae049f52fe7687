"""``plugins``: the installed plugins by kind, and what is broken."""

import json
import keyword
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template

from rich.cells import cell_len

from seqlab.cli.help import plain
from seqlab.cli.parser import Parser, path
from seqlab.errors import UserError
from seqlab.plugins.config import CLASSES, node_type, plugin_class
from seqlab.plugins.registry import GROUPS, KINDS, Plugin, plugins
from seqlab.plugins.signature import summary

OWN = "seqlab"
_PIPE, _NARROWEST = 80, 40


def plugins_table(arguments: list[str]) -> int:
    """Print one line per plugin; a broken plugin shows its cause and breaks nothing else."""
    parser = Parser(
        "plugins",
        description="List the installed plugins by kind: name and description, and the distribution where it is not "
        "seqlab. A line fits the terminal, or 80 columns in a pipe; --json prints everything.",
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, help="only this kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse(arguments)
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


TEMPLATES = ("cell", "task", "preprocessing")
"""Kinds of plugins with a folder of templates."""


def new(arguments: list[str]) -> int:
    """Write the files and print the next commands."""
    parser = Parser(
        "new",
        description="Write a distribution with a new plugin: its module, its entry point and its conformance tests.",
    )
    parser.add_argument("kind", choices=TEMPLATES, help="kind of plugin")
    parser.add_argument("name", metavar="NAME", help="its name in the config, such as my_cell")
    parser.add_argument("--dir", type=path, default=Path(), help="parent folder (the working folder)")
    asked = parser.parse(arguments)
    folder = write(asked.kind, asked.name, asked.dir)
    key = f"{asked.kind}={asked.name}"
    train = {"cell": f"{key} task=names", "task": f"cell=lstm {key}", "preprocessing": f"task=names {key}"}[asked.kind]
    shown = str(folder) if folder.is_absolute() else f"./{folder}"
    print(f"wrote {folder}; next:")
    print(f"  pip install -e {shlex.quote(shown)}\n  python -m seqlab check {key}\n  python -m seqlab {train}")
    return 0


def write(kind: str, name: str, parent: Path) -> Path:
    """Write the files of a distribution, all or none."""
    _check_name(kind, name)
    distribution = f"seqlab-{name.replace('_', '-')}"
    folder = parent / distribution
    if folder.exists():
        raise UserError(f"{folder} already exists; choose another name or --dir")
    module = f"seqlab_{name}"
    values = {
        "kind": kind,
        "name": name,
        "distribution": distribution,
        "module": module,
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "group": GROUPS[kind],
    }
    contents = {
        Path("pyproject.toml"): _filled("common/pyproject.toml.in", values),
        Path("README.md"): _filled(f"{kind}/README.md.in", values),
        Path(module, "__init__.py"): _filled(f"{kind}/module.py.in", values),
        Path(module, "py.typed"): "",
        Path("tests", f"test_{name}.py"): _filled(f"{kind}/test.py.in", values),
    }
    _write_whole(folder, contents)
    return folder


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{name}: a name must consist of lower-case letters, digits and _, begin with a letter, and be no keyword"
        )
    if name in plugins(kind):
        raise UserError(f"{kind}={name} already exists, from {plugins(kind)[name].distribution}; choose another name")


def _write_whole(folder: Path, contents: dict[Path, str]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            for file, text in contents.items():
                target = Path(scratch, folder.name, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            Path(scratch, folder.name).rename(folder)  # fails if another process has created it meanwhile
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; choose another --dir") from error


def _filled(template: str, values: dict[str, str]) -> str:
    text = files("seqlab").joinpath("templates", *template.split("/")).read_text(encoding="utf-8")
    return Template(text).substitute(values)
