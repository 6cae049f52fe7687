"""Generated reference pages: the config from the registry, the commands from their help."""

import contextlib
import inspect
import io
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from unittest.mock import patch

import seqlab_conf
from seqlab.__main__ import COMMANDS
from seqlab.cli.help import file_keys, typed
from seqlab.plugins import plugins
from seqlab.plugins.config import BUILT_IN_KERNELS
from seqlab.plugins.signature import Option, options

GROUPS = {
    "cell": "One time step of a recurrent network, with its equation and source.",
    "model": "Networks: ``recurrent`` runs a cell; the others are baselines.",
    "task": "Data, loss and metrics.",
    "preprocessing": "Texts to token ids, fitted on the training split only.",
    "kernel": "Ways to run a cell over time, with the same result at different speeds.",
    "callback": "Training callbacks: ``callbacks=NAME``, with options ``callbacks.NAME.KEY``.",
    "step": "Text normalisation before tokenisation: ``preprocessing.steps=[lower,urls]``.",
}
"""The first line of each page on a kind of plugin."""

FILES = {
    "trainer": "Training length, devices, precision and safeguards.",
    "optimizer": "Optimiser and learning rate schedule.",
    "data": "Batches.",
    "logger": "Learning curves.",
    "debug": "Short runs for debugging.",
    "experiment": "Named settings: those of papers, and those behind the measured results.",
    "hydra/launcher": "How the runs of a sweep are executed. Default ``basic``: one after another.",
    "hydra/sweeper": "Which runs a sweep has. Default ``basic``: all combinations.",
}
"""The first line of each page on a group of files in ``conf/seqlab_conf``."""

BUILT_IN = {
    "auto": "The fastest kernel that accepts the input.",
    "loop": "A plain loop over time: the reference for the other kernels.",
    "compiled": "Step and loop of any cell, compiled by ``torch.compile``.",
}

_CONF = Path(next(iter(seqlab_conf.__path__)))


def pages() -> dict[str, str]:
    """Return all pages in reStructuredText, by name."""
    made = {f"config_{kind}": plugin_page(kind, said) for kind, said in GROUPS.items()}
    made |= {f"config_{group.replace('/', '_')}": file_page(group, said) for group, said in FILES.items()}
    return {**made, "config_run": run_page(), "commands": verbs_page()}


def heading(text: str, line: str) -> str:
    """Underline a heading."""
    return f"{text}\n{line * len(text)}\n\n"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], widths: str = "auto") -> str:
    """Return a list-table, or an empty string without rows."""
    written = [_row(row) for row in rows]
    if not written:
        return ""
    head = f".. list-table::\n   :header-rows: 1\n   :widths: {widths}\n\n"
    return head + _row(columns) + "".join(written) + "\n"


def _row(cells: Iterable[str]) -> str:
    marks = ("   * - ", "     - ")
    return "".join(f"{marks[place > 0]}{cell}\n" for place, cell in enumerate(cells))


def plugin_page(kind: str, said: str) -> str:
    """Return the page of one kind of plugin: docstrings, keys, types and defaults."""
    page = heading(_key(kind), "=") + said + "\n\n"
    if kind == "kernel":
        page += "".join(heading(f"kernel={name}", "-") + BUILT_IN[name] + "\n\n" for name in BUILT_IN_KERNELS)
    for name, plugin in plugins(kind).items():
        if plugin.distribution != "seqlab":  # the site covers seqlab only
            continue
        target = plugin.load()
        page += heading(_title(kind, name), "-") + described(target) + "\n\n"
        if inspect.isclass(target):
            prefix = {"callback": f"callbacks.{name}", "kernel": "kernel", "step": ""}.get(kind, kind)
            keys = [_option(prefix, option) for option in options(target) if not option.supplied and prefix]
            page += table(("key", "default", "type", "meaning"), keys)
    return page


def _key(kind: str) -> str:
    return {"callback": "callbacks=", "step": "preprocessing.steps="}.get(kind, f"{kind}=")


def _title(kind: str, name: str) -> str:
    if kind == "kernel":
        cell, _, kernel = name.partition(".")
        return f"kernel={kernel}, of cell={cell}"
    return name if kind == "step" else f"{_key(kind)}{name}"


def _option(prefix: str, option: Option) -> tuple[str, str, str, str]:
    return f"``{prefix}.{option.name}``", f"``{typed(option.default)}``", spoken(option.annotation), option.doc


def described(target: Any) -> str:
    """Return a docstring up to its first section."""
    text = inspect.getdoc(target) or ""
    return re.split(r"^(?:Args|Attributes|Raises|Returns|Yields):$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def spoken(annotation: Any) -> str:
    """Describe the type of an option."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"``{typed(value)}``" for value in arguments)
    if origin in (Union, types.UnionType):
        parts = ["``null``" if part is type(None) else spoken(part) for part in arguments]
        return " or ".join(parts)
    if arguments:
        return "mapping" if origin is dict else f"list[{spoken(arguments[0])}]"
    names = {int: "integer", float: "number", str: "string", bool: "boolean", Any: "any"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def file_page(group: str, said: str) -> str:
    """Return the page of a group of YAML files: a table for each, from its lines and comments."""
    page = heading(f"{group}=", "=") + said + "\n\n"
    for path in sorted((_CONF / group).glob("*.yaml"), key=lambda path: (path.stem != "default", path.stem)):
        text = path.read_text("utf-8")
        page += heading(f"{group}={path.stem}", "-") + _opening(text) + "\n\n"
        flat = group not in ("debug", "experiment") and "defaults:" not in text
        page += table(("key", "default", "meaning"), _lines(group, text)) if flat else _source(text)
    return page


def run_page() -> str:
    """Return the page of the keys outside groups."""
    text = (_CONF / "config.yaml").read_text("utf-8")
    wanted = ("seed", "ckpt_path", "init_from", "freeze")
    keys = [row for row in _lines("", text) if row[0].strip("`") in wanted]
    said = "Keys outside groups, and the default choice of each group.\n\n"
    defaults = re.findall(r"^  - ([\w/]+): (\S+)", text, re.MULTILINE)
    chosen = [(f"``{group}=``", f"``{name}``") for group, name in defaults]
    return (
        heading("A run", "=") + said + table(("key", "default", "meaning"), keys) + table(("group", "default"), chosen)
    )


def _opening(text: str) -> str:
    """Return the first comment of a file, its commands as a code block."""
    found = re.match(r"(?:#.*\n)+", text)
    lines = [line.lstrip("# ") for line in found[0].splitlines()] if found else []
    typed = [line for line in lines if line.startswith("python -m ")]
    said = " ".join(line for line in lines if line not in typed and not line.startswith("@package"))
    return said + ("\n\n.. code-block:: sh\n\n" + "".join(f"   {line}\n" for line in typed) if typed else "")


def _lines(group: str, text: str) -> Iterator[tuple[str, str, str]]:
    prefix = {"hydra/launcher": "hydra.launcher.", "hydra/sweeper": "hydra.sweeper.", "": ""}.get(group, f"{group}.")
    for key, value, comment in file_keys(text):
        if key not in ("name", "_target_") and value:
            yield f"``{prefix}{key}``", f"``{value.strip()}``", _quoted(comment)


def _quoted(comment: str) -> str:
    """Escape the markup characters of reStructuredText."""
    return re.sub(r"([*_`|\\])", r"\\\1", comment)


def _source(text: str) -> str:
    body = re.sub(r"\A(?:#.*\n)+", "", text)
    return ".. code-block:: yaml\n\n" + "".join(f"   {line}\n" for line in body.splitlines()) + "\n"


def verbs_page() -> str:
    """Return the page of the commands: the help of each."""
    page = heading("Commands", "=")
    page += "``python -m seqlab COMMAND ...``, or ``seqlab COMMAND ...``. Without a command it trains, with overrides "
    page += "of the :doc:`../config` as arguments. Errors are one line with exit code 1.\n\n"
    for name, meaning in VERBS.items():
        page += heading(name, "-") + _quoted(meaning.rpartition(": ")[0]).capitalize() + ".\n\n"
        page += ".. code-block:: text\n\n" + "".join(f"   {line}".rstrip() + "\n" for line in help_of(name)) + "\n"
    return page


def help_of(verb: str) -> list[str]:
    """Return the help of a command, as ``python -m seqlab COMMAND --help`` prints it."""
    module = import_module(f"seqlab.verbs.{verb.replace('-', '_')}")
    shown = io.StringIO()
    plain: Mapping[str, str] = {"COLUMNS": "90", "NO_COLOR": "1"}
    with patch.dict(os.environ, plain), contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        module.main(["--help"])
    return shown.getvalue().splitlines()
