"""Registered kernels of a cell type, and which third-party kernels ``kernel=auto`` may use."""

import hashlib
import importlib
import json
import platform
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from seqlab._version import __version__
from seqlab.contracts import Cell, Kernel
from seqlab.errors import UserError
from seqlab.io.atomic import replacing
from seqlab.io.cache import cache_path
from seqlab.plugins.registry import Plugin, find, plugins

FORMAT = 1


def is_own(plugin: Plugin) -> bool:
    """Return whether a plugin comes with seqlab, so that its kernels need no check."""
    return plugin.distribution == "seqlab"


def untrusted_reason(entry: str, device: str = "cpu") -> str | None:
    """Return why ``kernel=auto`` must not use a registered kernel; ``None`` where it may."""
    plugin = find("kernel", entry)
    if is_own(plugin) or (device == "cpu" and _passed(entry)):
        return None
    owner = f"{plugin.distribution} {plugin.version}"
    if device != "cpu":
        return f"of {owner} is not checked on {device}: choose it by kernel={entry.partition('.')[2]}"
    return f"of {owner} is not checked: run python -m seqlab check kernel={entry}"


def record_trust(entry: str, passed: bool) -> None:
    """Record that a kernel passed its conformance tests on this machine, or delete the record."""
    path = _path(entry)
    if passed:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"kernel": entry, "passed": True}), "utf-8")
    else:
        path.unlink(missing_ok=True)
    _passed.cache_clear()


@cache
def _passed(entry: str) -> bool:
    """Read the record, once in a process, since its code does not change after the import."""
    try:
        found = json.loads(_path(entry).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("passed") is True


def _path(entry: str) -> Path:
    """Return the file of the record, which depends on the code of kernel and cell, torch, seqlab and the machine."""
    cell = plugins("cell").get(entry.partition(".")[0])
    parts = [find("kernel", entry), *([cell] if cell else [])]
    machine = [platform.node(), platform.machine(), platform.processor(), platform.python_version()]
    contents = [[part.distribution, part.version, part.target, _content(part)] for part in parts]
    return cache_path("checked", [FORMAT, entry, __version__, version("torch"), machine, contents], ".json")


def _content(plugin: Plugin) -> str:
    """Return a hash of all files of a plugin's distribution and of its top-level package."""
    digest = hashlib.sha256()
    for path in sorted({path.resolve() for path in (*_installed(plugin), *_package(plugin)) if path.is_file()}):
        if "__pycache__" not in path.parts and path.suffix != ".pyc":
            digest.update(str(path.name).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _installed(plugin: Plugin) -> Iterator[Path]:
    try:
        listed = distribution(plugin.distribution).files or ()
    except PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in listed if not str(file).endswith(("RECORD", "direct_url.json")))


def _package(plugin: Plugin) -> Iterator[Path]:
    """List the files of the plugin's top-level package, which an editable install does not record."""
    top = plugin.target.partition(":")[0].partition(".")[0]
    module = sys.modules.get(top) or importlib.import_module(top)
    if file := getattr(module, "__file__", None):
        yield Path(file)
    for folder in getattr(module, "__path__", ()):
        yield from Path(folder).rglob("*")


@cache
def kernels_for(cell: type[Cell]) -> tuple[Kernel, ...]:
    """Return the kernels for exactly this type of cell, with default options; broken plugins are skipped."""
    return tuple(found() for found in kernel_types(cell).values())


@cache
def kernel_types(cell: type[Cell]) -> dict[str, type[Kernel]]:
    """Return the kernel classes for exactly this type of cell, by name.

    Entry points are named ``<cell>.<kernel>``, so that no kernel of another cell is imported.
    """
    names = cell_names(cell)
    found: dict[str, type[Kernel]] = {}
    for entry, plugin in plugins("kernel").items():
        owner, _, name = entry.partition(".")
        if owner not in names:
            continue
        try:
            kernel = plugin.load()
        except UserError:
            continue  # `seqlab plugins` shows why
        if kernel.cell is cell:
            found[name] = kernel
            _ENTRIES.setdefault(kernel, entry)
    return found


_ENTRIES: dict[type[Kernel], str] = {}
"""The entry-point names of the kernels that :func:`kernel_types` found."""


def entry_of(kernel: Kernel) -> str | None:
    """Return a registered kernel's full name, such as ``gru.fused``; ``None`` for one without an entry point."""
    return _ENTRIES.get(type(kernel))


def precedence(kernel: Kernel) -> tuple[bool, str]:
    """Return the sort key of kernels of equal speed: seqlab's own and the caller's first, then by distribution."""
    entry = entry_of(kernel)
    plugin = plugins("kernel").get(entry) if entry else None
    return (False, "") if plugin is None or is_own(plugin) else (True, plugin.distribution)


def cell_names(cell: type[Cell]) -> set[str]:
    """Return the names under which a type of cell is registered; a package above its module may re-export it."""
    found = set()
    for name, plugin in plugins("cell").items():
        module, _, attribute = plugin.target.partition(":")
        if attribute == cell.__qualname__ and f"{cell.__module__}.".startswith(f"{module}."):
            found.add(name)
    return found
