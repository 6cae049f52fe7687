"""Registry of plugins by entry points; a plugin is imported when it is chosen."""

import importlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, final

from seqlab.errors import UserError, one_line

KINDS = ("cell", "model", "task", "preprocessing", "kernel", "pinned", "step", "callback")
"""Kinds of plugins that a config chooses; ``pinned`` is a choice of ``cell=`` that fixes the kernel as well."""

GROUPS = {
    "cell": "seqlab.cells",
    "kernel": "seqlab.kernels",
    "pinned": "seqlab.pinned_cells",
    "model": "seqlab.models",
    "task": "seqlab.tasks",
    "preprocessing": "seqlab.preprocessing",
    "step": "seqlab.steps",
    "callback": "seqlab.callbacks",
    "torch": "seqlab.torch",
}
"""The entry-point group of each kind; ``torch``: by module of ``torch.nn``, the cell that computes it."""


@final
@dataclass(frozen=True)
class Plugin:
    """An installed plugin, known from its distribution's metadata alone.

    ``target`` is ``module:attribute``; ``problem`` says why it cannot be used, if that is known without importing it.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    problem: str | None = None

    def load(self) -> Any:
        """Import the plugin."""
        if self.problem:
            raise UserError(f"{self.kind}={self.name}: {self.problem}")
        module, _, attribute = self.target.partition(":")
        owner = f"{self.kind}={self.name} of {self.distribution} {self.version} is broken"
        try:
            value = importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise UserError(f"{owner}: importing {module} gave {type(error).__name__}: {one_line(error)}") from error
        for part in attribute.split("."):
            if not hasattr(value, part):
                raise UserError(f"{owner}: {module} has no {attribute}")
            value = getattr(value, part)
        return value


@cache
def plugins(kind: str) -> Mapping[str, Plugin]:
    """Return the installed plugins of one kind by name, sorted; nothing is imported."""
    found: dict[str, list[EntryPoint]] = defaultdict(list)
    for entry in entry_points(group=GROUPS[kind]):
        found[entry.name].append(entry)
    return {name: _plugin(kind, name, found[name]) for name in sorted(found)}


def _plugin(kind: str, name: str, entries: list[EntryPoint]) -> Plugin:
    owners = sorted({(entry.dist.name, entry.dist.version) if entry.dist else ("?", "?") for entry in entries})
    problem = None
    if len(owners) > 1:
        both = " and ".join(f"{owner} {version}" for owner, version in owners)
        problem = f"{both} both provide a {kind} of this name; uninstall one of them"
    return Plugin(kind, name, owners[0][0], owners[0][1], entries[0].value, problem)


def find(kind: str, name: str) -> Plugin:
    """Return a plugin by name."""
    available = plugins(kind)
    if name not in available:
        raise UserError(f"{kind}={name}: there is no such {kind}; there are {', '.join(available) or 'none'}")
    return available[name]
