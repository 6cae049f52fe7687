"""``new cell my_cell``: write a distribution with a plugin that passes its own tests."""

import keyword
import re
import shlex
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from rich.console import Console
from rich.markup import escape

from seqlab.discovery.registry import GROUPS, plugins
from seqlab.errors import UserError
from seqlab.verbs.parser import Parser

KINDS = ("cell", "task", "preprocessing")
"""Kinds of plugins with templates."""


def main(arguments: list[str]) -> int:
    """Write the distribution and print the next commands."""
    parser = Parser(
        "new",
        description="Write a distribution of your own: a plugin, its entry point, and its conformance tests.",
    )
    parser.add_argument("kind", choices=KINDS, help="kind of plugin")
    parser.add_argument("name", metavar="NAME", help="name in the config, such as my_cell")
    parser.add_argument("--dir", type=Path, default=Path(), help="folder to write into (default: this one)")
    asked = parser.parse_args(arguments)
    folder = write(asked.kind, asked.name, asked.dir)
    key = f"{asked.kind}={asked.name}"
    train = {"cell": f"{key} task=names", "task": f"cell=lstm {key}", "preprocessing": f"task=names {key}"}[asked.kind]
    shown = str(folder) if folder.is_absolute() else f"./{folder}"
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"wrote {escape(str(folder))}; next:")
    console.print(f"  pip install -e {escape(shlex.quote(shown))}")
    console.print(f"  python -m seqlab check {key}")
    console.print(f"  python -m seqlab {train}")
    return 0


def write(kind: str, name: str, parent: Path) -> Path:
    """Write the distribution, whole or not at all.

    Args:
        kind: one of :data:`KINDS`.
        name: the entry point's name: lower-case letters, digits and ``_``.
        parent: parent of the distribution's folder.

    Returns:
        The distribution's folder.

    Raises:
        UserError: the name is invalid or taken, or the folder cannot be written.
    """
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
            for path, text in contents.items():
                target = Path(scratch, folder.name, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            Path(scratch, folder.name).rename(folder)  # fails if another process has created it meanwhile
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; choose another --dir") from error


def _filled(template: str, values: dict[str, str]) -> str:
    text = files("seqlab").joinpath("templates", *template.split("/")).read_text(encoding="utf-8")
    return Template(text).substitute(values)
