"""Reference pages made from the code itself: the config from the registry, the verbs from their own help."""

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
    "cell": "Cells: one time step each, with its equation and its source.",
    "model": "Models: what a batch goes through. ``recurrent`` runs a cell; the others are what it is compared with.",
    "task": "Tasks: data, a loss and metrics.",
    "preprocessing": "Preprocessing: texts to token ids, fitted on the training split alone.",
    "kernel": "Kernels: ways to run a cell over time. All give the same; some are faster.",
    "callback": "Callbacks: what watches a run. Chosen with ``callbacks=NAME``, set with ``callbacks.NAME.KEY``.",
    "step": "Steps: what is done to a text before it is cut into tokens, ``preprocessing.steps=[lower,urls]``.",
}
"""The pages on what is plugged in, by kind, and what each begins with."""

FILES = {
    "trainer": "How long, on what, and how carefully.",
    "optimizer": "How the weights move.",
    "data": "How batches are cut.",
    "logger": "Where the curves go.",
    "debug": "Runs that answer a question about the code, not about the model.",
    "experiment": "Settings under one name, of papers and of what was measured.",
    "hydra/launcher": "What runs the runs of a sweep; ``basic``, one after another, needs no file.",
    "hydra/sweeper": "What decides which runs a sweep has; ``basic``, all combinations, needs no file.",
}
"""The groups that are files of ``conf/seqlab_conf``, and what each page begins with."""

BUILT_IN = {
    "auto": "The fastest of those that do not refuse, and the reason with it.",
    "loop": "One step after another: the truth that the others are held against.",
    "compiled": "Any cell's step, compiled together with the loop over time by ``torch.compile``.",
}

_CONF = Path(next(iter(seqlab_conf.__path__)))


def pages() -> dict[str, str]:
    """Write all pages, in reStructuredText, by name."""
    made = {f"config_{kind}": plugin_page(kind, said) for kind, said in GROUPS.items()}
    made |= {f"config_{group.replace('/', '_')}": file_page(group, said) for group, said in FILES.items()}
    return {**made, "config_run": run_page(), "verbs": verbs_page()}


def heading(text: str, line: str) -> str:
    """Underline a heading."""
    return f"{text}\n{line * len(text)}\n\n"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], widths: str = "auto") -> str:
    """Write a list-table; nothing where there are no rows."""
    written = [_row(row) for row in rows]
    if not written:
        return ""
    head = f".. list-table::\n   :header-rows: 1\n   :widths: {widths}\n\n"
    return head + _row(columns) + "".join(written) + "\n"


def _row(cells: Iterable[str]) -> str:
    marks = ("   * - ", "     - ")
    return "".join(f"{marks[place > 0]}{cell}\n" for place, cell in enumerate(cells))


def plugin_page(kind: str, said: str) -> str:
    """Write the page of one kind of plugin: each with its docstring, keys, types and defaults."""
    page = heading(_key(kind), "=") + said + "\n\n"
    if kind == "kernel":
        page += "".join(heading(f"kernel={name}", "-") + BUILT_IN[name] + "\n\n" for name in BUILT_IN_KERNELS)
    for name, plugin in plugins(kind).items():
        if plugin.distribution != "seqlab":  # the site is about seqlab, whatever else is installed beside it
            continue
        target = plugin.load()
        page += heading(_title(kind, name), "-") + described(target) + "\n\n"
        if inspect.isclass(target):
            prefix = {"callback": f"callbacks.{name}", "kernel": "kernel", "step": ""}.get(kind, kind)
            keys = [_option(prefix, option) for option in options(target) if not option.supplied and prefix]
            page += table(("key", "default", "what it may be", "meaning"), keys)
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
    """Give a docstring up to its first section."""
    text = inspect.getdoc(target) or ""
    return re.split(r"^(?:Args|Attributes|Raises|Returns|Yields):$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def spoken(annotation: Any) -> str:
    """Say in words what an option may be."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"``{typed(value)}``" for value in arguments)
    if origin in (Union, types.UnionType):
        parts = ["``null``" if part is type(None) else spoken(part) for part in arguments]
        return " or ".join(parts)
    if arguments:
        of = spoken(arguments[0]).replace("number", "numbers")
        return f"list of {of}" if origin is not dict else "keys and values"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def file_page(group: str, said: str) -> str:
    """Write the page of a group that is files: a table of each, from its lines and their comments."""
    page = heading(f"{group}=", "=") + said + "\n\n"
    for path in sorted((_CONF / group).glob("*.yaml"), key=lambda path: (path.stem != "default", path.stem)):
        text = path.read_text("utf-8")
        page += heading(f"{group}={path.stem}", "-") + _opening(text) + "\n\n"
        flat = group not in ("debug", "experiment") and "defaults:" not in text
        page += table(("key", "default", "meaning"), _lines(group, text)) if flat else _source(text)
    return page


def run_page() -> str:
    """Write the page of the keys that stand in no group."""
    text = (_CONF / "config.yaml").read_text("utf-8")
    wanted = ("seed", "ckpt_path", "init_from", "freeze")
    keys = [row for row in _lines("", text) if row[0].strip("`") in wanted]
    said = "Keys of a run that belong to no group, and the groups that are chosen where nothing is said.\n\n"
    defaults = re.findall(r"^  - ([\w/]+): (\S+)", text, re.MULTILINE)
    chosen = [(f"``{group}=``", f"``{name}``") for group, name in defaults]
    return (
        heading("A run", "=") + said + table(("key", "default", "meaning"), keys) + table(("group", "default"), chosen)
    )


def _opening(text: str) -> str:
    """Give what a file's first comment says, and below it the commands in it."""
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
    """Escape what reStructuredText would read as markup."""
    return re.sub(r"([*_`|\\])", r"\\\1", comment)


def _source(text: str) -> str:
    body = re.sub(r"\A(?:#.*\n)+", "", text)
    return ".. code-block:: yaml\n\n" + "".join(f"   {line}\n" for line in body.splitlines()) + "\n"


def verbs_page() -> str:
    """Write the page of the verbs: what each says of itself."""
    page = heading("Verbs", "=")
    page += "``python -m seqlab VERB ...``, or ``seqlab VERB ...``. Without a verb it trains: every word is a key and "
    page += "its value (:doc:`../config`). The exit code is 1 where something went wrong, and one line says what.\n\n"
    for name, meaning in COMMANDS.items():
        page += heading(name, "-") + _quoted(meaning.rpartition(": ")[0]).capitalize() + ".\n\n"
        page += ".. code-block:: text\n\n" + "".join(f"   {line}".rstrip() + "\n" for line in help_of(name)) + "\n"
    return page


def help_of(verb: str) -> list[str]:
    """Ask a verb for its help, as ``python -m seqlab VERB --help`` prints it."""
    module = import_module(f"seqlab.cli.{verb.replace('-', '_')}")
    shown = io.StringIO()
    plain: Mapping[str, str] = {"COLUMNS": "90", "NO_COLOR": "1"}
    with patch.dict(os.environ, plain), contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        module.main(["--help"])
    return shown.getvalue().splitlines()
