"""Run by test_scan.py: each cell's fused scan in one compiled graph, forward and backward."""

import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import Cell, Recurrent
from seqlab_cells.fused.kernel import Fused
from seqlab_cells.gru import GRU, GRUFused
from seqlab_cells.lstm import LSTM, LSTMFused
from seqlab_cells.rnn import RNN, RNNFused


def compare(cell: type[Cell], kernel: Fused) -> None:
    torch.manual_seed(0)
    network, x = Recurrent(cell, 3, hidden_size=4, bidirectional=True, kernel=kernel), torch.randn(5, 2, 3)

    def run(x: Tensor) -> Tensor:
        y, state = network(x)
        return (y * y).sum() + sum(leaf.sum() for leaf in state)

    expected = torch.autograd.grad(run(x), list(network.parameters()))
    actual = torch.autograd.grad(torch.compile(run, fullgraph=True)(x), list(network.parameters()))
    assert_close(actual, expected)


for cell, kernel in ((RNN, RNNFused), (LSTM, LSTMFused), (GRU, GRUFused)):
    compare(cell, kernel())
