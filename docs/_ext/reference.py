"""Reference pages generated from the code: config keys from the registry, commands from their help."""

import contextlib
import inspect
import io
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from unittest.mock import patch

import seqlab_conf
from seqlab.__main__ import COMMANDS, function_of
from seqlab.cli.help import file_keys, typed
from seqlab.plugins import plugins
from seqlab.plugins.config import BUILT_IN_KERNELS
from seqlab.plugins.signature import Option, options

GROUPS = {
    "cell": "Recurrent cells: one time step each, with equation and source.",
    "model": "Models. ``recurrent`` runs a cell; the others are baselines.",
    "task": "Tasks: data, loss and metrics.",
    "preprocessing": "Preprocessing: text to token ids, fitted on the training split.",
    "kernel": "Kernels: implementations of a cell over time, all with the same result.",
    "callback": "Callbacks: chosen by ``callbacks=NAME``, configured by ``callbacks.NAME.KEY``.",
    "step": "Text cleaning before tokenisation, ``preprocessing.steps=[lower,urls]``.",
}
"""Plugin kinds, with the introduction of their pages."""

FILES = {
    "trainer": "Training length, devices and precision.",
    "optimizer": "Optimiser and schedule.",
    "data": "Batching.",
    "logger": "Loggers of training curves.",
    "debug": "Settings for debugging.",
    "experiment": "Named settings, of papers and of measurements.",
    "hydra/launcher": "Launchers of the runs of a sweep; ``basic``, sequential, needs no file.",
    "hydra/sweeper": "Sweepers; ``basic``, all combinations, needs no file.",
}
"""Config groups that are files of ``conf/seqlab_conf``, with the introduction of their pages."""

BUILT_IN = {
    "auto": "The fastest kernel that supports the input, with the reason.",
    "loop": "One step after another: the reference.",
    "compiled": "Any cell's step, compiled with the loop over time by ``torch.compile``.",
}

_CONF = Path(next(iter(seqlab_conf.__path__)))


def pages() -> dict[str, str]:
    """Return all pages in reStructuredText, by name."""
    found = {f"config_{kind}": plugin_page(kind, introduction) for kind, introduction in GROUPS.items()}
    found |= {
        f"config_{group.replace('/', '_')}": file_page(group, introduction) for group, introduction in FILES.items()
    }
    return {**found, "config_run": run_page(), "commands": commands_page()}


def heading(text: str, line: str) -> str:
    """Return an underlined heading."""
    return f"{text}\n{line * len(text)}\n\n"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], widths: str = "auto") -> str:
    """Return a list-table; empty without rows."""
    written = [_row(row) for row in rows]
    if not written:
        return ""
    head = f".. list-table::\n   :header-rows: 1\n   :widths: {widths}\n\n"
    return head + _row(columns) + "".join(written) + "\n"


def _row(cells: Iterable[str]) -> str:
    marks = ("   * - ", "     - ")
    return "".join(f"{marks[place > 0]}{cell}\n" for place, cell in enumerate(cells))


def plugin_page(kind: str, introduction: str) -> str:
    """Return the page of a plugin kind: docstring, keys, types and defaults of each plugin."""
    page = heading(_key(kind), "=") + introduction + "\n\n"
    if kind == "kernel":
        page += "".join(heading(f"kernel={name}", "-") + BUILT_IN[name] + "\n\n" for name in BUILT_IN_KERNELS)
    for name, plugin in plugins(kind).items():
        if plugin.distribution != "seqlab":  # third-party plugins may be installed
            continue
        target = plugin.load()
        page += heading(_title(kind, name), "-") + summary(target) + "\n\n"
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
    return f"``{prefix}.{option.name}``", f"``{typed(option.default)}``", type_name(option.annotation), option.doc


def summary(target: Any) -> str:
    """Return a docstring up to its first section."""
    text = inspect.getdoc(target) or ""
    return re.split(r"^(?:Args|Attributes|Raises|Returns|Yields):$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def type_name(annotation: Any) -> str:
    """Describe a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"``{typed(value)}``" for value in arguments)
    if origin in (Union, types.UnionType):
        parts = ["``null``" if part is type(None) else type_name(part) for part in arguments]
        return " or ".join(parts)
    if arguments:
        return "mapping" if origin is dict else f"list[{type_name(arguments[0])}]"
    names = {int: "integer", float: "number", str: "string", bool: "boolean", Any: "any"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def file_page(group: str, introduction: str) -> str:
    """Return the page of a group of files: a table of each, from its lines and their comments."""
    page = heading(f"{group}=", "=") + introduction + "\n\n"
    for path in sorted((_CONF / group).glob("*.yaml"), key=lambda path: (path.stem != "default", path.stem)):
        text = path.read_text("utf-8")
        page += heading(f"{group}={path.stem}", "-") + _opening(text) + "\n\n"
        flat = group not in ("debug", "experiment") and "defaults:" not in text
        page += table(("key", "default", "meaning"), _lines(group, text)) if flat else _source(text)
    return page


def run_page() -> str:
    """Return the page of the keys outside of groups."""
    text = (_CONF / "config.yaml").read_text("utf-8")
    shown = ("seed", "ckpt_path", "init_from", "freeze")
    keys = [row for row in _lines("", text) if row[0].strip("`") in shown]
    page = heading("A run", "=") + "Keys outside of groups, and the default of each group.\n\n"
    defaults = re.findall(r"^  - ([\w/]+): (\S+)", text, re.MULTILINE)
    chosen = [(f"``{group}=``", f"``{name}``") for group, name in defaults]
    return page + table(("key", "default", "meaning"), keys) + table(("group", "default"), chosen)


def _opening(text: str) -> str:
    """Return the first comment of a file, its commands as a code block."""
    found = re.match(r"(?:#.*\n)+", text)
    lines = [line.lstrip("# ") for line in found[0].splitlines()] if found else []
    commands = [line for line in lines if line.startswith("python -m ")]
    introduction = " ".join(line for line in lines if line not in commands and not line.startswith("@package"))
    block = ["\n\n.. code-block:: sh\n\n", *(f"   {line}\n" for line in commands)] if commands else []
    return introduction + "".join(block)


def _lines(group: str, text: str) -> Iterator[tuple[str, str, str]]:
    prefix = {"hydra/launcher": "hydra.launcher.", "hydra/sweeper": "hydra.sweeper.", "": ""}.get(group, f"{group}.")
    for key, value, comment in file_keys(text):
        if key not in ("name", "_target_") and value:
            yield f"``{prefix}{key}``", f"``{value.strip()}``", _quoted(comment)


def _quoted(comment: str) -> str:
    """Escape reStructuredText markup."""
    return re.sub(r"([*_`|\\])", r"\\\1", comment)


def _source(text: str) -> str:
    body = re.sub(r"\A(?:#.*\n)+", "", text)
    return ".. code-block:: yaml\n\n" + "".join(f"   {line}\n" for line in body.splitlines()) + "\n"


def commands_page() -> str:
    """Return the page of the commands: the help of each."""
    page = heading("Commands", "=")
    page += "``python -m seqlab COMMAND ...``, or ``seqlab COMMAND ...``. Without a command it trains, with overrides "
    page += "``key=value`` (:doc:`../config`). On an error the exit code is 1 and one line describes it.\n\n"
    for name, meaning in COMMANDS.items():
        page += heading(name, "-") + _quoted(meaning.rpartition(": ")[0]).capitalize() + ".\n\n"
        page += ".. code-block:: text\n\n" + "".join(f"   {line}".rstrip() + "\n" for line in help_of(name)) + "\n"
    return page


def help_of(command: str) -> list[str]:
    """Return the lines that ``python -m seqlab COMMAND --help`` prints."""
    shown = io.StringIO()
    plain: Mapping[str, str] = {"COLUMNS": "90", "NO_COLOR": "1"}
    with patch.dict(os.environ, plain), contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        function_of(command)(["--help"])
    return shown.getvalue().splitlines()
