"""Import of torchmetrics without SciPy's signal processing.

torchmetrics imports ``scipy.signal``, where SciPy is installed, only to give it a former name of a window back, which
an audio metric of others uses. That takes a fifth of the time in which a run starts.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, final

NAME, SIGNAL = "torchmetrics", "scipy.signal"


@final
class TorchmetricsFinder(MetaPathFinder):
    """Finder of torchmetrics (:data:`sys.meta_path`), for its first import."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec that others find, with a loader that stands in for ``scipy.signal`` meanwhile."""
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None and SIGNAL not in sys.modules:
            spec.loader = _Loader(spec.loader)
        return spec


@final
class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        sys.modules[SIGNAL] = stand_in = _StandIn(SIGNAL)
        try:
            self._loader.exec_module(module)
        finally:
            if sys.modules.get(SIGNAL) is stand_in:
                del sys.modules[SIGNAL]


@final
class _StandIn(ModuleType):
    """Module that imports the real one when any other name of it is read, as another release of torchmetrics may do."""

    hamming = None
    """The name that torchmetrics would add."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # the import system's own, but for submodules
            raise AttributeError(name)
        if sys.modules.get(SIGNAL) is self:
            del sys.modules[SIGNAL]
        return getattr(import_module(SIGNAL), name)
