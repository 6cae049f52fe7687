"""Registered kernels of a cell type, and which of other distributions ``kernel=auto`` may take."""

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

OWN = "seqlab"
"""The distribution whose kernels are trusted as they are."""

FORMAT = 1


def is_own(plugin: Plugin) -> bool:
    """Whether a plugin comes with seqlab."""
    return plugin.distribution == OWN


def untrusted_reason(entry: str, device: str = "cpu") -> str | None:
    """Say why ``kernel=auto`` leaves a registered kernel alone; ``None`` where it may take it.

    Args:
        entry: its full name, such as ``gru.fused``.
        device: the type of device that it is to run on.
    """
    plugin = find("kernel", entry)
    if is_own(plugin) or (device == "cpu" and _passed(entry)):
        return None
    whose = f"{plugin.distribution} {plugin.version}"
    if device != "cpu":
        return f"of {whose} is not checked on {device}: choose it by kernel={entry.partition('.')[2]}"
    return f"of {whose} is not checked: run python -m seqlab check kernel={entry}"


def record_trust(entry: str, passed: bool) -> None:
    """Keep, or forget, that a kernel passed its conformance tests on this machine.

    Raises:
        OSError: the cache cannot be written.
    """
    path = _path(entry)
    if passed:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"kernel": entry, "passed": True}), "utf-8")
    else:
        path.unlink(missing_ok=True)
    _passed.cache_clear()


@cache
def _passed(entry: str) -> bool:
    """Look the record up, once in a process: what runs now was imported then."""
    try:
        found = json.loads(_path(entry).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("passed") is True


def _path(entry: str) -> Path:
    """Name the record: another code of kernel or cell, torch, seqlab or machine is another one."""
    cell = plugins("cell").get(entry.partition(".")[0])
    parts = [find("kernel", entry), *([cell] if cell else [])]
    machine = [platform.node(), platform.machine(), platform.processor(), platform.python_version()]
    contents = [[part.distribution, part.version, part.target, _content(part)] for part in parts]
    return cache_path("checked", [FORMAT, entry, __version__, version("torch"), machine, contents], ".json")


def _content(plugin: Plugin) -> str:
    """Hash a plugin's code: all files of its distribution and of the package that its module lies in."""
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
    """List the files beside the plugin's code, which an editable install does not list."""
    top = plugin.target.partition(":")[0].partition(".")[0]
    module = sys.modules.get(top) or importlib.import_module(top)
    if file := getattr(module, "__file__", None):
        yield Path(file)
    for folder in getattr(module, "__path__", ()):
        yield from Path(folder).rglob("*")


@cache
def kernels_for(cell: type[Cell]) -> tuple[Kernel, ...]:
    """Make one of each kernel for exactly this type of cell, with its default options; broken plugins are left out.

    Entry points are named ``<cell>.<kernel>``, so that no kernel of another cell is imported.
    """
    return tuple(found() for found in kernel_types(cell).values())


@cache
def kernel_types(cell: type[Cell]) -> dict[str, type[Kernel]]:
    """Find the kernel classes for exactly this type of cell, by name."""
    names = cell_names(cell)
    found: dict[str, type[Kernel]] = {}
    for entry, plugin in plugins("kernel").items():
        owner, _, name = entry.partition(".")
        if owner not in names:
            continue
        try:
            kernel = plugin.load()
        except UserError:
            continue  # `seqlab plugins` shows it as broken; asking for it by name says why
        if kernel.cell is cell:
            found[name] = kernel
            _ENTRIES.setdefault(kernel, entry)
    return found


_ENTRIES: dict[type[Kernel], str] = {}
"""The full names of the kernels that were found by their entry points."""


def entry_of(kernel: Kernel) -> str | None:
    """Give a registered kernel's full name, such as ``gru.fused``; ``None`` for one that no entry point gave."""
    return _ENTRIES.get(type(kernel))


def precedence(kernel: Kernel) -> tuple[bool, str]:
    """Say in which order kernels of equal speed are taken: seqlab's own and a caller's, then by distribution."""
    entry = entry_of(kernel)
    plugin = plugins("kernel").get(entry) if entry else None
    return (False, "") if plugin is None or is_own(plugin) else (True, plugin.distribution)


def cell_names(cell: type[Cell]) -> set[str]:
    """Find the names under which a type of cell is registered."""
    return {name for name, plugin in plugins("cell").items() if _is(plugin.target, cell)}


def _is(target: str, cell: type[Cell]) -> bool:
    """Whether an entry point's target is this class, which may be re-exported by a package above its own module."""
    module, _, attribute = target.partition(":")
    return attribute == cell.__qualname__ and (cell.__module__ == module or cell.__module__.startswith(f"{module}."))
