"""``model.json`` and ``preprocessor.json``: the plugins that make a model, their parameters, and the vocabulary."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlab._version import __version__
from seqlab.contracts import PLUGIN_API, InputSpec, Preprocessor, Task, UserError
from seqlab.errors import one_line
from seqlab.io import atomic
from seqlab.io.safe_io import check_json
from seqlab.plugins import find
from seqlab.plugins.registry import KINDS, plugins
from seqlab.runs import run_folder

ROLES = ("task", "preprocessing", "model", "cell")
"""Kinds of the plugins that define a model; a kernel is only another way to compute a cell."""

_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,80}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9.+!-]{1,40}")


def write_card(
    folder: Path,
    config: Mapping[str, Any],
    task: Task,
    data_inputs: InputSpec,
    init_from: Mapping[str, Any] | None = None,
    estimate: Mapping[str, Any] | None = None,
) -> None:
    """Write ``model.json``: the plugins that make the model, their parameters, and the run that it started from.

    A model that was trained on all rows has the ``estimate`` of its scores by cross-validation there, too.
    """
    atomic.write_json(
        folder / run_folder.MODEL_CARD,
        {
            "format": run_folder.FORMAT,
            "seqlab": __version__,
            "plugin_api": PLUGIN_API,
            "inputs": {"kind": data_inputs.kind, "size": data_inputs.size},  # the preprocessor knows the symbols
            "task_state": task.state_dict(),
            "init_from": init_from,
            "freeze": config.get("freeze", []),
            **({} if estimate is None else {"estimate": estimate}),
            **{kind: _entry(kind, config.get(kind)) for kind in (*ROLES, "kernel")},
        },
    )


def _entry(kind: str, node: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if node is None:
        return None
    parameters = {key: value for key, value in node.items() if key != "name"}
    entry: dict[str, Any] = {"name": node["name"], "parameters": parameters}
    if kind != "kernel":
        plugin = find(kind, node["name"])
        entry |= {"distribution": plugin.distribution, "version": plugin.version}
    return entry


def read_card(folder: Path) -> dict[str, Any]:
    """Read ``model.json``, and check that its plugins are installed."""
    path = folder / run_folder.MODEL_CARD
    card = run_folder.read_json(path)
    try:  # except the state of the task, where a symbol may be any character: the task checks what it shows
        check_json({key: value for key, value in card.items() if key != "task_state"}, plain=True)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if card.get("format") != run_folder.FORMAT:
        raise UserError(_other_format(folder, card))
    for kind in (*ROLES, "kernel"):
        entry = card.get(kind)
        if entry is None and kind in card:
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise UserError(f"{path} does not name its {kind}")
        name = entry["name"][:80]
        if not isinstance(entry.get("parameters"), dict):
            raise UserError(f"{path} has no parameters of {kind}={name}")
        if kind in KINDS and kind != "kernel" and entry["name"] not in plugins(kind):
            known = ", ".join(plugins(kind)) or "none"
            raise UserError(f"{folder} needs {kind}={name}, which is not installed{_install(entry)}; there are {known}")
    return card


def _other_format(folder: Path, card: Mapping[str, Any]) -> str:
    found = card.get("format")
    writer = f", written by seqlab {_checked(card.get('seqlab'), _VERSION)}" if "seqlab" in card else ""
    line = f"{folder} has format {str(found)[:40]}{writer}; this is seqlab {__version__}, which reads format"
    upgrade = ": pip install -U seqlab" if type(found) is int and found > run_folder.FORMAT else ""
    return f"{line} {run_folder.FORMAT}{upgrade}"


def other_plugins(card: Mapping[str, Any]) -> str:
    """Describe the plugins of other distributions whose version differs from that of the run; empty if none does."""
    found = []
    for kind in ROLES:
        if (entry := card.get(kind)) is None:
            continue
        plugin = find(kind, entry["name"])
        then, now = (entry.get("distribution"), entry.get("version")), (plugin.distribution, plugin.version)
        if then != now and not then[0] == now[0] == "seqlab":  # whose format has a version of its own
            was = f"{_checked(then[0], _DISTRIBUTION)} {_checked(then[1], _VERSION)}"
            found.append(f"{kind}={plugin.name} was of {was}, and is of {now[0]} {now[1]}{_install(entry)}")
    return "; ".join(found)


def _install(entry: Mapping[str, Any]) -> str:
    """Return the command to install a plugin, if the file has a valid name for its distribution."""
    name, version = str(entry.get("distribution")), str(entry.get("version"))
    if entry.get("distribution") in (None, "?") or not _DISTRIBUTION.fullmatch(name):
        return ""
    exact = f"=={version}" if _VERSION.fullmatch(version) else ""
    return f" (recorded in the folder: pip install {name}{exact})"


def _checked(value: Any, pattern: re.Pattern[str]) -> str:
    return str(value) if pattern.fullmatch(str(value)) else "unknown"


def write_preprocessor(folder: Path, preprocessor: Preprocessor | None) -> None:
    """Write ``preprocessor.json``: the state of the fitted preprocessor."""
    state = None if preprocessor is None else preprocessor.state_dict()
    atomic.write_json(folder / run_folder.PREPROCESSOR, {"format": run_folder.FORMAT, "state": state})


def read_preprocessor(folder: Path) -> dict[str, Any]:
    """Read the state of the preprocessor, empty for a run without one."""
    return run_folder.read_json(folder / run_folder.PREPROCESSOR).get("state") or {}
