"""The kernels that are registered for a type of cell."""

from functools import cache

from seqlab.contracts import Cell, Kernel
from seqlab.discovery.registry import plugins
from seqlab.discovery.trust import is_own
from seqlab.errors import UserError


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


def whose(kernel: Kernel) -> tuple[bool, str]:
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
