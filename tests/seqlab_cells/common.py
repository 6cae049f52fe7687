"""A step by hand, and the four networks that torch has too, with runs of both in one form."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqlab import Cell, Recurrent
from seqlab.plugins.registry import find
from seqlab_cells.convert import from_torch

CELLS: dict[str, type[Cell]] = {
    name: find("cell", name).load()
    for name in (
        "rnn", "lstm", "gru", "peephole_lstm", "coupled_lstm", "layer_norm_lstm", "indrnn", "mingru", "minlstm",
    )
}  # fmt: skip
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)

# ------------------------------------------------------------------------ equations, one number at a time, no tensors

Vector = list[float]


def sigma(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def times(matrix: Tensor, vector: Sequence[float]) -> Vector:
    return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in matrix.tolist()]


def plus(*vectors: Sequence[float]) -> Vector:
    return [sum(terms) for terms in zip(*vectors, strict=True)]


def normalised(vector: Sequence[float], gain: Sequence[float]) -> Vector:
    mean = sum(vector) / len(vector)
    variance = sum((v - mean) ** 2 for v in vector) / len(vector)
    return [g * (v - mean) / math.sqrt(variance + 1e-5) for v, g in zip(vector, gain, strict=True)]


def parts(vector: Vector, count: int) -> list[Vector]:
    size = len(vector) // count
    return [vector[k * size : (k + 1) * size] for k in range(count)]


def shaken(cell: Cell) -> Any:
    """Set every parameter of a cell to a random value, in float64: ones and zeros would hide a mistake."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in cell.double().parameters():
            parameter.normal_()
    return cell


def one_step(cell: Cell, x: Vector, state: Sequence[Vector]) -> tuple[Vector, list[Vector]]:
    """Return the output and the state of the cell's own step for one row."""
    inputs = torch.tensor(x, dtype=torch.float64).view(1, 1, -1)
    tensors = tuple(torch.tensor([each], dtype=torch.float64) for each in state)
    y, new = cell.step(cell.project(inputs)[0], tensors)
    return y[0].tolist(), [each[0].tolist() for each in new]


# ------------------------------------------------------------------------------------- torch's networks and ours

TORCH: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *args, **options: nn.RNN(*args, nonlinearity="relu", **options),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}

every_network = pytest.mark.parametrize("kind", TORCH)
both_kernels = pytest.mark.parametrize("kernel", ["loop", "vendor"])

INPUT, HIDDEN = 4, 5


def pair(kind: str, kernel: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[nn.RNNBase, Recurrent]:
    """Return torch's module and ours with the same weights."""
    torch.manual_seed(0)
    module = TORCH[kind](INPUT, HIDDEN, dtype=dtype, **options)
    recurrent = from_torch(module)
    recurrent.kernel = kernel
    return module, recurrent


def network(kind: str, kernel: str, dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    return pair(kind, kernel, dtype, **options)[1]


def starts(recurrent: Recurrent, rows: int) -> tuple[Tensor, ...]:
    """Return a random initial state that requires gradients."""
    size = (len(recurrent.cells), rows, HIDDEN)
    dtype = next(recurrent.parameters()).dtype
    return tuple(torch.randn(size, dtype=dtype, requires_grad=True) for _ in recurrent.cells[0].state_names)


class Result(NamedTuple):
    """Results of a run, and the gradients of one scalar that weighs every output and state differently."""

    output: Tensor
    state: tuple[Tensor, ...]
    to_input: Tensor
    to_start: tuple[Tensor, ...]
    to_parameters: dict[str, Tensor]


def result(
    module: nn.Module, output: Tensor, state: tuple[Tensor, ...], x: Tensor, start: tuple[Tensor, ...]
) -> Result:
    def weighed(value: Tensor) -> Tensor:
        weights = torch.arange(1.0, 1 + value.numel(), dtype=torch.float64).cos()  # of a prefix: the prefix
        return (value * weights.view(value.shape).to(value)).sum()

    scalar = weighed(output) + sum(weighed(each) for each in state)
    names, parameters = zip(*module.named_parameters(), strict=True)
    to_input, *rest = torch.autograd.grad(scalar, [x, *start, *parameters])
    to_start, to_parameters = tuple(rest[: len(start)]), rest[len(start) :]
    return Result(output, state, to_input, to_start, dict(zip(names, to_parameters, strict=True)))


def run(recurrent: Recurrent, x: Tensor, start: tuple[Tensor, ...], lengths: list[int] | None) -> Result:
    """Run ours, over padded input."""
    x = x.detach().requires_grad_()
    output, state = recurrent(x, start, None if lengths is None else torch.tensor(lengths))
    return result(recurrent, output, state, x, start)


def run_torch(module: nn.RNNBase, x: Tensor, start: tuple[Tensor, ...], lengths: list[int] | None) -> Result:
    """Run torch's, over packed input; its parameters under our names."""
    x = x.detach().requires_grad_()
    given: Any = start if isinstance(module, nn.LSTM) else start[0]
    if lengths is None:
        output, state = module(x, given)
    else:
        packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        output, state = module(packed, given)
        output, _ = pad_packed_sequence(output, total_length=len(x))
    state = state if isinstance(state, tuple) else (state,)
    found = result(module, output, state, x, start)
    return found._replace(to_parameters={_ours(name): value for name, value in found.to_parameters.items()})


def _ours(name: str) -> str:
    """``weight_hh_l1_reverse`` -> ``layers.1.1.from_state.weight``."""
    what, which, layer, *backward = name.split("_")
    source = {"ih": "from_input", "hh": "from_state"}[which]
    return f"layers.{layer[1:]}.{len(backward)}.{source}.{what}"
