"""Registry of what ``export`` asks of plugins: operators for cells, limits of models, encoders of preprocessors."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

from torch import Tensor, nn

from seqlab.contracts import Cell, Model, Preprocessor
from seqlab.plugins.kernels import kernels_for


@final
@dataclass(frozen=True)
class Routine:
    r"""What computes the same as a cell over time, given for one cell and the weights that it has now.

    Both sides read four weights, whose first axis is ``gates * hidden``: :math:`W` and :math:`b` from the input,
    :math:`U` and :math:`c` from the state.

    Attributes:
        torch: an operator with the arguments of ``torch.ops.aten.lstm.input`` (a state of two tensors) or
            ``torch.ops.aten.gru.input`` (of one).
        onnx: an operator of ONNX with the inputs X, W, R, B, sequence_lens and initial_h: ``RNN``, ``GRU``, ``LSTM``.
        weights: :math:`W, U, b, c`, the gates in the order of torch's operator.
        gates: for each gate of ONNX's operator, which one of torch's it is; ``(0, 3, 1, 2)`` for an LSTM.
        attributes: further attributes of the node.
        activations: its activations, of one direction; the operator's own if empty.
    """

    torch: Any
    onnx: str
    weights: Sequence[Tensor]
    gates: tuple[int, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)
    activations: tuple[str, ...] = ()


Plugin = TypeVar("Plugin", bound=Cell | Model | Preprocessor)

_EXPORTS: dict[type, Callable[[Any], Any]] = {}


def register_export(plugin: type[Plugin], function: Callable[[Plugin], Any]) -> None:
    """Register what ``export`` asks of the instances of a class, in place of its general way.

    Args:
        plugin: of a cell exactly this class; of a model or preprocessor also its subclasses.
        function: takes an instance. Of a cell it returns the :class:`.Routine` that replaces the loop over time. Of a
            model it returns a module of the same outputs that ``torch.export`` can trace, called with a batch as the
            model is; or, as a text, why no exported program can compute it, with the option to blame. Of a preprocessor
            it returns Python files by name that need the standard library alone; ``encode.py`` among them has
            ``encoder(state)``, which takes :meth:`.Preprocessor.state_dict` and returns a function from a text to the
            list of its token ids. ``None`` stands for nothing.
    """
    _EXPORTS[plugin] = function


def routine_of(cell: Cell) -> Routine | None:
    """Return the operator that computes a cell over time without seqlab; ``None`` for a loop over its step."""
    kernels = kernels_for(type(cell))  # importing them registers what they know
    found: Routine | None
    if function := _EXPORTS.get(type(cell)):
        found = function(cell)
        return found
    for kernel in kernels:
        method: Callable[[Cell], Routine | None] | None = getattr(kernel, "routine", None)
        if method and (found := method(cell)):
            _warn(type(kernel), f"register_export({type(cell).__name__}, {type(kernel).__name__}().routine)")
            return found
    return None


def exported_model(model: Model) -> nn.Module | str:
    """Return the module to trace for a model, by default itself; or why no exported program can compute it."""
    found: nn.Module | str | None = _inherited(model, "unexportable")
    return model if found is None else found


def standalone_encoder(preprocessor: Preprocessor) -> dict[str, str] | None:
    """Return Python files by name that encode texts without seqlab; ``None`` if there are none."""
    files: dict[str, str] | None = _inherited(preprocessor, "standalone")
    return files


def _inherited(plugin: Any, old_method: str) -> Any:
    """Call the function registered for a class or its nearest base, or the method that plugin API 1 had."""
    kind = type(plugin)
    function = next((_EXPORTS[base] for base in kind.__mro__ if base in _EXPORTS), None)
    if function is None and (function := getattr(kind, old_method, None)):
        _warn(kind, f"register_export({kind.__name__}, {kind.__name__}.{old_method})")
    return function(plugin) if function else None


def _warn(kind: type, call: str) -> None:
    text = f"{kind.__module__}.{kind.__qualname__} is written for plugin API 1, which is deprecated: call seqlab.{call}"
    warnings.warn(text, DeprecationWarning, stacklevel=4)
