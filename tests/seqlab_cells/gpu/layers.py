"""What the suites of the Triton kernels share: the device, the cells, and all results of a layer."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from seqlab import Cell, Recurrent
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.gpu import limits
from seqlab_cells.gru import GRU, GRUFused
from seqlab_cells.lstm import LSTM, LSTMFused
from seqlab_cells.rnn import RNN, RNNFused

INTERPRETED = limits.INTERPRETED and os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
on_a_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="neither a GPU nor the interpreter"),
    pytest.mark.filterwarnings(
        "ignore:overflow encountered in exp:RuntimeWarning"
    ),  # by the interpreter: exp(89) is inf
]

CELLS: dict[str, tuple[type[Cell], type[Fused], dict[str, Any]]] = {
    "lstm": (LSTM, LSTMFused, {}),
    "gru": (GRU, GRUFused, {}),
    "rnn": (RNN, RNNFused, {}),
    "rnn_relu": (RNN, RNNFused, {"nonlinearity": "relu"}),
}
every_cell = pytest.mark.parametrize("name", list(CELLS))
BOUND = {torch.float32: 2e-5, torch.float16: 2e-2, torch.bfloat16: 8e-2}


def weighed(part: Tensor) -> Tensor:
    """Return the sum of numbers, each weighed differently."""
    weights = torch.arange(1.0, 1 + part.numel(), dtype=torch.float64).cos().to(part)
    return (part * weights.view_as(part)).sum()


def results(network: Recurrent, x: Tensor, lengths: Tensor | None, start: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Outputs, states, and the gradients of a scalar that weighs each of them differently."""
    x, start = x.clone().requires_grad_(), tuple(each.clone().requires_grad_() for each in start)
    output, state = network(x, start, lengths)
    assert state is not None
    named = dict(network.named_parameters())
    found = {"output": output, **{f"state {k}": each for k, each in enumerate(state)}}

    total = torch.stack([weighed(part.double()) for part in found.values()]).sum()
    sources = {"x": x, **{f"start {k}": each for k, each in enumerate(start)}, **named}
    gradients = torch.autograd.grad(total, list(sources.values()))
    found |= {f"gradient of {key}": part for key, part in zip(sources, gradients, strict=True)}
    return {key: part.detach().double().cpu() for key, part in found.items()}


def agree(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], bound: float) -> None:
    for key, part in expected.items():
        size = max(1.0, float(part.abs().max()))
        assert found[key].shape == part.shape
        assert float((found[key] - part).abs().max()) <= bound * size, key
