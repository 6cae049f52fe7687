"""Registry of what ``export`` asks of plugins: operators for cells, limits of models, encoders of preprocessors."""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from seqlab.contracts import Cell, Model, Preprocessor, Routine
from seqlab.plugins.kernels import kernels_for

Plugin = TypeVar("Plugin", bound=Cell | Model | Preprocessor)

_EXPORTS: dict[type, Callable[[Any], Any]] = {}


def register_export(plugin: type[Plugin], function: Callable[[Plugin], Any]) -> None:
    """Register what ``export`` asks of the instances of a class, in place of its general way.

    Args:
        plugin: of a cell exactly this class; of a model or preprocessor also its subclasses.
        function: takes an instance. Of a cell it returns the :class:`.Routine` that replaces the loop over time. Of a
            model it returns why no exported program can compute it, with the option to blame. Of a preprocessor it
            returns Python files by name that need the standard library alone; ``encode.py`` among them has
            ``encoder(state)``, which takes :meth:`.Preprocessor.state_dict` and returns a function from a text to the
            list of its token ids. ``None`` stands for nothing.
    """
    _EXPORTS[plugin] = function


def routine_of(cell: Cell) -> Routine | None:
    """Return the operator that computes a cell over time without seqlab; ``None`` for a loop over its step."""
    kernels = kernels_for(type(cell))  # importing them registers what they know
    if function := _EXPORTS.get(type(cell)):
        found: Routine | None = function(cell)
        return found
    return next((found for kernel in kernels if (found := kernel.routine(cell))), None)


def export_limit(model: Model) -> str | None:
    """Return why no exported program can compute a model; ``None`` if one can."""
    reason: str | None = _inherited(model, "unexportable")
    return reason


def standalone_encoder(preprocessor: Preprocessor) -> dict[str, str] | None:
    """Return Python files by name that encode texts without seqlab; ``None`` if there are none."""
    files: dict[str, str] | None = _inherited(preprocessor, "standalone")
    return files


def _inherited(plugin: Any, old_method: str) -> Any:
    """Call the function registered for a class or its nearest base, or the method that plugin API 1 had."""
    kind = type(plugin)
    function = next((_EXPORTS[base] for base in kind.__mro__ if base in _EXPORTS), None)
    if function is None and (function := getattr(kind, old_method, None)):
        change = f"call seqlab.register_export({kind.__name__}, {kind.__name__}.{old_method})"
        text = f"{kind.__module__}.{kind.__qualname__} is written for plugin API 1, which is deprecated: {change}"
        warnings.warn(text, DeprecationWarning, stacklevel=3)
    return function(plugin) if function else None
