"""The kernels that are registered for a type of cell."""

from functools import cache

from seqlab.contracts import Cell, Kernel
from seqlab.discovery.registry import plugins
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
    return found


def cell_names(cell: type[Cell]) -> set[str]:
    """Find the names under which a type of cell is registered."""
    return {name for name, plugin in plugins("cell").items() if _is(plugin.target, cell)}


def _is(target: str, cell: type[Cell]) -> bool:
    """Whether an entry point's target is this class, which may be re-exported by a package above its own module."""
    module, _, attribute = target.partition(":")
    return attribute == cell.__qualname__ and (cell.__module__ == module or cell.__module__.startswith(f"{module}."))
