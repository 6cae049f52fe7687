"""Old import paths and names, which work for one release with a ``DeprecationWarning`` that names the new one."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "seqlab.discovery": "seqlab.plugins",
    "seqlab.discovery.registry": "seqlab.plugins.registry",
    "seqlab.recurrence.between": "seqlab.recurrence.wrappers",
    "seqlab.recurrence.regularise": "seqlab.recurrence.wrappers",
    "seqlab.study.pictures": "seqlab.study.plotting",
    "seqlab.study.style": "seqlab.study.plotting",
    "seqlab.tables": "seqlab.io.tables",
    "seqlab.training.compose": "seqlab.config.compose",
    "seqlab.training.results": "seqlab.runs.results",
    "seqlab.training.runfolder": "seqlab.runs.run_folder",
    "seqlab.training.trained": "seqlab.inference",
}
"""Modules that documentation or plugins of the last release named, with their new names."""


class MovedModules(MetaPathFinder, Loader):
    """Finder and loader of moved modules by their old names (:data:`sys.meta_path`)."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a spec that loads the new module, ``None`` for any other name."""
        return ModuleSpec(name, self, is_package=True) if name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the new module."""
        new = MODULES[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=_outside())
        module = ModuleType(spec.name, f"Old name of :mod:`{new}`.")

        def find(name: str) -> Any:
            if name.startswith("__"):  # not __path__, by which its modules would be imported a second time
                raise AttributeError(name)
            return getattr(import_module(new), name)

        module.__getattr__ = find  # type: ignore[method-assign]  # PEP 562
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module takes its names from the new one."""


def _outside() -> int:
    """Return the number of frames up to the import statement, past the import system."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and (frame.f_globals.get("__name__") in (__name__, "importlib._bootstrap")):
        level, frame = level + 1, frame.f_back
    return level


def old_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` (PEP 562) that gives renamed objects by their old names."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {module}.{names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return find
