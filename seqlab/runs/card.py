"""``model.json``: which plugins make a model, with which parameters; and what to install where they are not here."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlab._version import __version__
from seqlab.contracts import PLUGIN_API, InputSpec, Task, UserError
from seqlab.errors import one_line
from seqlab.io import atomic
from seqlab.io.safe_io import check_plain
from seqlab.plugins import find
from seqlab.plugins.registry import KINDS, plugins
from seqlab.runs import run_folder

ROLES = ("task", "preprocessing", "model", "cell")
"""The plugins of a run; a kernel is another way to compute the same."""

_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,80}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9.+!-]{1,40}")


def write_card(
    folder: Path,
    config: Mapping[str, Any],
    task: Task,
    data_inputs: InputSpec,
    init_from: Mapping[str, Any] | None = None,
) -> None:
    """Write ``model.json``: which plugins make the model, with which parameters, and what it began with."""
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
    """Read ``model.json``, and check that what it names can be had.

    Raises:
        UserError: it is no such file, of a newer seqlab, or names a plugin that is not installed.
    """
    card = run_folder.read_json(folder / run_folder.MODEL_CARD)
    try:  # but of the task's state, where a symbol may be any character: the task looks at what it will show
        check_plain({key: value for key, value in card.items() if key != "task_state"})
    except ValueError as error:
        raise UserError(f"{folder / run_folder.MODEL_CARD} cannot be read: {one_line(error)}") from error
    if card.get("format") != run_folder.FORMAT:
        newer = type(card.get("format")) is int and card["format"] > run_folder.FORMAT
        whose = f", written by seqlab {_shown(card.get('seqlab'), _VERSION)}" if "seqlab" in card else ""
        raise UserError(
            f"{folder} has format {str(card.get('format'))[:40]}{whose}; this is seqlab {__version__}, which reads "
            f"format {run_folder.FORMAT}" + (": pip install -U seqlab" if newer else "")
        )
    for kind in (*ROLES, "kernel"):
        entry = card.get(kind)
        if entry is None and kind in card:
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise UserError(f"{folder}: {run_folder.MODEL_CARD} does not name its {kind}")
        if not isinstance(entry.get("parameters"), dict):
            raise UserError(f"{folder}: {run_folder.MODEL_CARD} has no parameters of {kind}={entry['name'][:80]}")
        if kind in KINDS and kind != "kernel" and entry["name"] not in plugins(kind):
            there = ", ".join(plugins(kind)) or "none"
            wanted = f"{kind}={entry['name'][:80]}"
            raise UserError(f"{folder} needs {wanted}, which is not installed{_install(entry)}; there are {there}")
    return card


def other_plugins(card: Mapping[str, Any]) -> str:
    """Name the third parties' plugins that are not those that a run was made with, in a line; empty if all are."""
    found = []
    for kind in ROLES:
        if (entry := card.get(kind)) is None:
            continue
        plugin = find(kind, entry["name"])
        then, now = (entry.get("distribution"), entry.get("version")), (plugin.distribution, plugin.version)
        if then != now and not then[0] == now[0] == "seqlab":  # of seqlab's own the format says enough
            was = f"{_shown(then[0], _DISTRIBUTION)} {_shown(then[1], _VERSION)}"
            found.append(f"{kind}={plugin.name} was of {was}, and is of {now[0]} {now[1]}{_install(entry)}")
    return "; ".join(found)


def _install(entry: Mapping[str, Any]) -> str:
    """Say what to install, if a file names it as such names are."""
    name, version = str(entry.get("distribution")), str(entry.get("version"))
    if entry.get("distribution") in (None, "?") or not _DISTRIBUTION.fullmatch(name):
        return ""
    exact = f"=={version}" if _VERSION.fullmatch(version) else ""
    return f" (by what the folder says: pip install {name}{exact})"


def _shown(value: Any, pattern: re.Pattern[str]) -> str:
    return str(value) if pattern.fullmatch(str(value)) else "unknown"
