"""Inputs, states and weights of one layer, and all results of the fused scan over them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqlab import Cell
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.fused.ops import fused_scan
from seqlab_cells.gru import GRU, GRUFused
from seqlab_cells.lstm import LSTM, LSTMFused
from seqlab_cells.rnn import RNN, RNNFused
from seqlab_cells.weights import EPILOGUES

KERNELS: dict[str, type[Fused]] = {"rnn": RNNFused, "lstm": LSTMFused, "gru": GRUFused}
CELLS: dict[str, type[Cell]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
EPILOGUE = {"rnn": "RnnTanh", "lstm": "Lstm", "gru": "Gru"}
TORCH = {"RnnTanh": nn.RNN, "Lstm": nn.LSTM, "Gru": nn.GRU}
every_cell = pytest.mark.parametrize("name", list(KERNELS))
every_epilogue = pytest.mark.parametrize("epilogue", list(EPILOGUES))


def draw(epilogue: str, time: int, batch: int, size: int, hidden: int, directions: int = 1) -> dict[str, Any]:
    """Inputs, states and weights of one layer, in float64."""
    torch.manual_seed(1)
    make = EPILOGUES[epilogue]
    shapes = [
        (make.gates * hidden, size),
        (make.gates * hidden, hidden),
        (make.gates * hidden,),
        (make.gates * hidden,),
    ]
    bound = hidden**-0.5
    return {
        "x": torch.randn(time, batch, size, dtype=torch.float64),
        "states": [0.5 * torch.randn(batch, hidden, dtype=torch.float64) for _ in range(directions * make.states)],
        "weights": [bound * torch.randn(s, dtype=torch.float64) for _ in range(directions) for s in shapes],
    }


def results(epilogue: str, given: dict[str, Any], lengths: Tensor | None = None, save: str = "gates") -> list[Tensor]:
    """Outputs, final states and all gradients."""
    made = {
        name: [each.clone().requires_grad_() for each in value] if isinstance(value, list) else value.clone()
        for name, value in given.items()
    }
    made["x"].requires_grad_()
    y, h, c, _ = fused_scan(made["x"], lengths, made["states"], made["weights"], epilogue, save)
    found = [y, h, c] if EPILOGUES[epilogue].states == 2 else [y, h]
    total = sum((part * torch.linspace(-1, 1, part.numel(), dtype=part.dtype).view_as(part)).sum() for part in found)
    assert isinstance(total, Tensor)
    sources = [made["x"], *made["states"], *made["weights"]]
    return [part.detach() for part in found] + list(torch.autograd.grad(total, sources))
