"""Examples that lectures work out by hand, with the numbers of their slides."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import Cell
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

from .networks import both_kernels, network


def test_hell_step_by_step() -> None:
    """The character RNN that reads "hell": W_xh over one-hot (h, e, l, o), a scalar W_hh, one bias."""
    cell = RNN(4, 3).double()
    w_xh = [
        [0.287027, 0.84606, 0.572392, 0.486813],
        [0.902874, 0.871522, 0.691079, 0.18998],
        [0.537524, 0.09224, 0.558159, 0.491528],
    ]
    assign(cell, torch.tensor(w_xh), 0.427043 * torch.eye(3), torch.full((3,), 0.567001))
    x = torch.eye(4, dtype=torch.float64)[:2].unsqueeze(1)  # "h", "e"
    states, state = [], cell.initial_state(x[0])
    for projected in cell.project(x):
        h, state = cell.step(projected, state)
        states.append(h[0])
    assert_close(states[0], torch.tensor([0.6932, 0.8996, 0.8021], dtype=torch.float64), rtol=0, atol=5e-5)
    assert_close(states[1], torch.tensor([0.9365, 0.9491, 0.7623], dtype=torch.float64), rtol=0, atol=5e-5)


@torch.no_grad()
def test_one_lstm_step_by_hand() -> None:
    """x = 1, h = 1, c = 2. (The slide ends in o + tanh(c') = 1.986; its own formula, o * tanh(c'), gives 0.986.)"""
    cell = LSTM(1, 1).double()
    w = torch.tensor([[1.65], [1.63], [0.94], [-0.19]])  # i f g o
    u = torch.tensor([[2.0], [2.7], [1.41], [4.38]])
    b = torch.tensor([0.62, 1.62, -0.32, 0.59])
    assign(cell, w, u, b)
    one = torch.ones(1, 1, dtype=torch.float64)
    gates = cell.project(one.unsqueeze(0))[0] + cell.from_state(one)
    assert_close(gates, torch.tensor([[4.27, 5.95, 2.03, 4.78]], dtype=torch.float64), rtol=0, atol=1e-6)
    i, f, o = (round(float(gate), 3) for gate in torch.sigmoid(gates[0, [0, 1, 3]]))
    g = round(float(torch.tanh(gates[0, 2])), 3)
    assert (f, i, g, o) == (0.997, 0.986, 0.966, 0.992)
    assert round(f * 2 + i * g, 3) == 2.946
    h, (_, c) = cell.step(cell.project(one.unsqueeze(0))[0], (one, 2 * one))
    assert abs(float(c) - 2.946) < 2e-3  # the slide rounds each gate before it multiplies
    assert round(float(h), 3) == 0.986


@both_kernels
@pytest.mark.parametrize(("name", "i", "f"), [("remember", 0, 1), ("add", 1, 1), ("erase", 0, 0), ("overwrite", 1, 0)])
def test_the_gate_table(kernel: str, name: str, i: int, f: int) -> None:
    """Gates driven to saturation through the biases, over three steps, for the loop and for torch's routine."""
    recurrent = network("lstm", kernel)
    (cell,) = recurrent.cells
    assert isinstance(cell, LSTM)
    with torch.no_grad():
        bias_i, bias_f, _, _ = cell.from_input.bias.chunk(4)
        bias_i.fill_(1e3 if i else -1e3)
        bias_f.fill_(1e3 if f else -1e3)
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    h = c = torch.randn(1, 2, 5, dtype=torch.float64)
    for step in x:
        g = torch.tanh((cell.project(step.unsqueeze(0))[0] + cell.from_state(h[0])).chunk(4, dim=-1)[2])
        expected = {"remember": c[0], "add": c[0] + g, "erase": 0 * g, "overwrite": g}[name]
        _, (h, c) = recurrent(step.unsqueeze(0), (h, c))
        assert_close(c[0], expected, rtol=0, atol=1e-15)


def assign(cell: Cell, w: Tensor, u: Tensor, b: Tensor) -> None:
    """Set the weights; a lecture's single bias goes to the input, and zero to the state."""
    with torch.no_grad():
        for parameter, value in zip(cell.parameters(), (w, b, u, torch.zeros_like(b)), strict=True):
            parameter.copy_(value)
