"""Attribution of an error to the plugin of a third party in whose code it was raised."""

import linecache
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from seqlab.discovery.registry import KINDS, Plugin, plugins

_OWN = "seqlab"
_WORKER = re.compile(r'File "([^"\n]+)", line (\d+), in (\w+)')
"""A frame in the text of a traceback, which is all that a worker process of a ``DataLoader`` hands on."""


@final
@dataclass(frozen=True)
class _Frame:
    file: str
    line: int
    names: frozenset[str]


def culprit(error: BaseException) -> str | None:
    """Name the plugin whose code raised an error, its distribution and version, and the file and line.

    That is the innermost frame of the traceback in a package that registers plugins and is not seqlab's: what a plugin
    calls in other libraries is its own doing. ``None`` where there is no such frame.
    """
    third = _third_parties()
    if not third:
        return None
    frames = [*_frames(error)]
    for index in range(len(frames) - 1, -1, -1):
        if owners := _owners(third, frames[index].file):
            names = [frame.names for frame in reversed(frames[: index + 1]) if _owners(third, frame.file)]
            return f"{_who(owners, names)} failed at {_place(owners[0], frames[index])}"
    return None


def crashed(error: BaseException) -> bool:
    """Whether no ``raise`` statement raised an error, so that its message was not written for a user."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    return not linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip().startswith("raise")


def in_use(config: Mapping[str, Any]) -> list[str]:
    """Name the plugins of third parties that a config chooses."""
    chosen = {kind: config[kind]["name"] for kind in KINDS if config.get(kind)}
    names = [(kind, str(name)) for kind, name in chosen.items()]
    names += [("callback", str(node["name"])) for node in (config.get("callbacks") or {}).values()]
    names += [("pinned", name) for kind, name in names if kind == "cell"]
    names += [("kernel", f"{chosen.get('cell')}.{name}") for kind, name in names if kind == "kernel"]
    return [_shown(plugins(kind)[name]) for kind, name in names if _is_third(plugins(kind).get(name))]


def _is_third(plugin: Plugin | None) -> bool:
    return plugin is not None and plugin.distribution != _OWN


def _third_parties() -> list[Plugin]:
    return [plugin for kind in KINDS for plugin in plugins(kind).values() if plugin.distribution != _OWN]


def _frames(error: BaseException) -> Iterator[_Frame]:
    """Walk from the outermost frame to the innermost; in a worker's message, to that process's."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        names = {frame.f_code.co_qualname.partition(".")[0]}
        if "self" in frame.f_locals:
            names |= {each.__name__ for each in type(frame.f_locals["self"]).__mro__}
        yield _Frame(frame.f_code.co_filename, line, frozenset(names))
    for file, number, name in _WORKER.findall(str(error)):
        yield _Frame(file, int(number), frozenset({name}))


def _owners(third: list[Plugin], file: str) -> list[Plugin]:
    """Find the plugins whose module, or the package that it is in, holds a file: those of the closest folder."""
    found = [(len(str(root)), plugin) for plugin in third for root in _roots(plugin) if _holds(root, file)]
    closest = max((length for length, _ in found), default=0)
    return list(dict.fromkeys(plugin for length, plugin in found if length == closest))


def _holds(root: Path, file: str) -> bool:
    return Path(file) == root or root in Path(file).parents


def _roots(plugin: Plugin) -> Iterator[Path]:
    """List a plugin's module and the packages around it, as far as they were imported."""
    parts = plugin.target.partition(":")[0].split(".")
    for count in range(len(parts), 0, -1):
        file = getattr(sys.modules.get(".".join(parts[:count])), "__file__", None)  # a namespace package has none
        if file:
            yield Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _who(owners: list[Plugin], names: list[frozenset[str]]) -> str:
    """Name the one plugin among several of a module whose class or function is on the stack, or their distribution."""
    if len(owners) > 1:
        for each in names:
            if named := [plugin for plugin in owners if plugin.target.rpartition(":")[2] in each]:
                owners = named
                break
    kinds = list(dict.fromkeys(_choice(plugin) for plugin in owners))
    one = owners[0]
    return f"{' or '.join(kinds[:3]) if len(kinds) <= 3 else 'a plugin'} of {one.distribution} {one.version}"


def _choice(plugin: Plugin) -> str:
    """Write a plugin as it is chosen."""
    if plugin.kind == "step":
        return f"step {plugin.name}"
    if plugin.kind == "kernel":
        return f"kernel={plugin.name.rpartition('.')[2]}"
    group = {"pinned": "cell", "callback": "callbacks"}.get(plugin.kind, plugin.kind)
    return f"{group}={plugin.name}"


def _shown(plugin: Plugin) -> str:
    return f"{_choice(plugin)} of {plugin.distribution} {plugin.version}"


def _place(plugin: Plugin, frame: _Frame) -> str:
    """Write file and line, the file from the package on."""
    top = list(_roots(plugin))[-1]
    base = top if top.suffix != ".py" else top.parent
    path = Path(frame.file)
    shown = path.relative_to(base.parent if base is top else base) if base in path.parents else path
    return f"{shown}:{frame.line}"
