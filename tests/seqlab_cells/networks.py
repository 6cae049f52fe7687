"""The four networks that torch has too, and runs of both in one form."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqlab import Recurrent
from seqlab_cells.convert import from_torch

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
    """Torch's module and ours with the same weights."""
    torch.manual_seed(0)
    module = TORCH[kind](INPUT, HIDDEN, dtype=dtype, **options)
    recurrent = from_torch(module)
    recurrent.kernel = kernel
    return module, recurrent


def network(kind: str, kernel: str, dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    return pair(kind, kernel, dtype, **options)[1]


def starts(recurrent: Recurrent, rows: int) -> tuple[Tensor, ...]:
    """A random state before the first step, to be differentiated by."""
    leaves = len(recurrent.cells[0].state_names)
    size = (len(recurrent.cells), rows, HIDDEN)
    like = next(recurrent.parameters())
    return tuple(torch.randn(size, dtype=like.dtype, requires_grad=True) for _ in range(leaves))


class Result(NamedTuple):
    """All that a run gives; the gradients are those of one scalar that weighs every output and state differently."""

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

    scalar = weighed(output) + sum(weighed(leaf) for leaf in state)
    names, parameters = zip(*module.named_parameters(), strict=True)
    to_input, *rest = torch.autograd.grad(scalar, [x, *start, *parameters])
    to_start, to_parameters = tuple(rest[: len(start)]), rest[len(start) :]
    return Result(output, state, to_input, to_start, dict(zip(names, to_parameters, strict=True)))


def run(recurrent: Recurrent, x: Tensor, start: tuple[Tensor, ...], lengths: list[int] | None) -> Result:
    """Ours, over padded input."""
    x = x.detach().requires_grad_()
    output, state = recurrent(x, start, None if lengths is None else torch.tensor(lengths))
    return result(recurrent, output, state, x, start)


def run_torch(module: nn.RNNBase, x: Tensor, start: tuple[Tensor, ...], lengths: list[int] | None) -> Result:
    """Torch's, over packed input; its parameters under our names."""
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
