"""``new cell my_cell``: write a distribution that brings a plugin and passes its own tests."""

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
"""What can be begun; each has a folder of templates."""


def main(arguments: list[str]) -> int:
    """Write the distribution and say what to type next."""
    parser = Parser(
        "new",
        description="Write a distribution of your own: a plugin, its entry point, a test by the conformance kit.",
    )
    parser.add_argument("kind", choices=KINDS, help="what it brings")
    parser.add_argument("name", metavar="NAME", help="what the config will call it, such as my_cell")
    parser.add_argument("--dir", type=Path, default=Path(), help="the folder that it is written into (this one)")
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
        name: the entry point's name: small letters, digits and ``_``.
        parent: the folder that the distribution's own folder goes into.

    Returns:
        The distribution's folder.

    Raises:
        UserError: the name cannot be one, is taken, or the folder cannot be written.
    """
    _check_name(kind, name)
    distribution = f"seqlab-{name.replace('_', '-')}"
    folder = parent / distribution
    if folder.exists():
        raise UserError(f"{folder} is there already; take another name or --dir")
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
            f"{name}: a name must be of small letters, digits and _, begin with a letter, and be no keyword"
        )
    if name in plugins(kind):
        raise UserError(f"{kind}={name} is there already, brought by {plugins(kind)[name].distribution}; take another")


def _write_whole(folder: Path, contents: dict[Path, str]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            for path, text in contents.items():
                target = Path(scratch, folder.name, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            Path(scratch, folder.name).rename(folder)  # fails where another process has put something meanwhile
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; take another --dir") from error


def _filled(template: str, values: dict[str, str]) -> str:
    text = files("seqlab").joinpath("templates", *template.split("/")).read_text(encoding="utf-8")
    return Template(text).substitute(values)
