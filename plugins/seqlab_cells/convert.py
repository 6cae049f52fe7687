"""Conversion of ``Recurrent`` to and from ``torch.nn.RNN``, ``LSTM`` and ``GRU``: the weights are copied unchanged."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqlab import Cell, Recurrent, TorchCell
from seqlab.recurrence import torch_kind
from seqlab.recurrence.torch_modules import refusal
from seqlab_cells.borrowed import BorrowedLinear
from seqlab_cells.gru import GRU, GRUVendor
from seqlab_cells.lstm import LSTM, LSTMVendor
from seqlab_cells.rnn import RNN, RNNVendor
from seqlab_cells.weights import modified, weights

_TORCH: dict[type[Cell], Callable[..., nn.RNNBase]] = {RNN: nn.RNN, LSTM: nn.LSTM, GRU: nn.GRU}
_CELLS: dict[Any, type[Cell]] = {module: cell for cell, module in _TORCH.items()}


def to_torch(recurrent: Recurrent) -> nn.RNNBase:
    """Convert to the ``torch.nn`` module that computes the same, with copies of the weights.

    Depth, direction, dropout, ``batch_first``, nonlinearity, dtype, device and training mode are kept. A parametrised
    weight (weight norm, say) becomes its present value.

    Raises:
        ValueError: ``torch.nn`` has no module for it; the message says what it lacks.
    """
    cells = recurrent.cells
    if fault := _beyond_torch(recurrent):
        raise ValueError(f"this network cannot be converted: {fault}")
    like = weights(cells[0])[0]
    module = _TORCH[type(cells[0])](
        cells[0].input_size,
        cells[0].hidden_size,
        num_layers=recurrent.depth,
        dtype=like.dtype,
        device=like.device,
        **_shared(recurrent, cells[0]),
    )
    for theirs, ours in _pairs(module, recurrent):
        _copy(ours, cast(Tensor, theirs))
    return module.train(recurrent.training)


def from_torch(module: nn.Module) -> Recurrent:
    """Convert to the :class:`Recurrent` that computes the same, with copies of the weights.

    Depth, direction, dropout, ``batch_first``, nonlinearity, dtype, device and training mode are kept. A module
    without biases gets trainable biases of zero.

    Raises:
        ValueError: it is no ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, or it projects its outputs.
    """
    kind = torch_kind(module)
    if kind is None or not isinstance(module, nn.RNNBase):
        raise ValueError(f"{type(module).__name__} cannot be converted; nn.RNN, nn.LSTM and nn.GRU can")
    if module.proj_size:
        raise ValueError(f"proj_size must be 0 for a conversion, got {module.proj_size}")
    reason = refusal(module)
    if reason is None and module._forward_pre_hooks:  # such as the old weight_norm, stale after an optimiser step
        reason = "it has a forward pre-hook, which may set its weights"
    if reason:
        raise ValueError(f"{type(module).__name__} cannot be converted: {reason}")
    like = cast(Tensor, module.weight_ih_l0)
    recurrent = Recurrent(
        _CELLS[kind],
        module.input_size,
        depth=module.num_layers,
        hidden_size=module.hidden_size,
        **_shared(module, module),
    ).to(like)
    for theirs, ours in _pairs(module, recurrent):
        _copy(theirs, ours)
    return recurrent.train(module.training)


def _borrow(cell: type[Cell], module: nn.RNNBase, suffix: str, input_size: int) -> Cell:
    """Make a cell that reads its weights from a module."""
    options = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
    with torch.device("meta"):
        made = cell(input_size, module.hidden_size, **options)
    made.from_input = BorrowedLinear(module, f"ih{suffix}")
    made.from_state = BorrowedLinear(module, f"hh{suffix}")
    return made


TORCH_RNN, TORCH_LSTM, TORCH_GRU = (
    TorchCell(partial(_borrow, routine.cell), routine, from_torch) for routine in (RNNVendor, LSTMVendor, GRUVendor)
)
"""What ``seqlab.nn`` takes: the cells of torch's modules."""


def _beyond_torch(recurrent: Recurrent) -> str | None:
    """Return what ``torch.nn`` does not have of a network."""
    options = {
        "truncate": recurrent.truncate,
        "locked_dropout": recurrent.locked_dropout,
        "weight_drop": recurrent.weight_drop,
        "learned_start": len(recurrent.starts) > 0,
        "conv": recurrent.conv,
        "layer_norm, connection or block": not all(around.is_plain for around in recurrent.around),
    }
    for name, value in options.items():
        if value:
            return f"torch.nn has no {name}"
    for index, cell in enumerate(recurrent.cells):
        if type(cell) not in _TORCH:
            return f"torch.nn has no {type(cell).__name__}; it has {', '.join(kind.__name__ for kind in _TORCH)}"
        if fault := modified(cell):
            return f"cell {index}: {fault}"
    return None


def _shared(network: nn.Module, cell: nn.Module) -> dict[str, Any]:
    """Return the options that are called alike on both sides."""
    shared = {name: getattr(network, name) for name in ("bidirectional", "dropout", "batch_first")}
    return shared | ({"nonlinearity": cell.nonlinearity} if isinstance(cell, RNN | nn.RNN) else {})


def _pairs(module: nn.RNNBase, recurrent: Recurrent) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Pair each weight of torch's module (``None`` for a bias that it lacks) with the cell's."""
    for index, cell in enumerate(recurrent.cells):
        layer, backward = divmod(index, recurrent.directions)
        suffix = f"_l{layer}_reverse" if backward else f"_l{layer}"
        for name, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights(cell), strict=True):
            yield getattr(module, name + suffix, None), weight


@torch.no_grad()
def _copy(source: Tensor | None, target: Tensor) -> None:
    if source is None:
        target.zero_()
    else:
        target.copy_(source)
