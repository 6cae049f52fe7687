"""The relatives of LSTM compute their papers' equations."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seqlab import Cell, Recurrent
from seqlab_cells.coupled_lstm import CoupledLSTM
from seqlab_cells.layer_norm_lstm import LayerNormLSTM
from seqlab_cells.peephole_lstm import PeepholeLSTM

from .by_hand import Vector, normalised, one_step, parts, plus, shaken, sigma, times

X, H, C = [0.3, -1.2, 0.7], [0.4, -0.9], [1.6, -0.2]


def check(cell: Cell, h: Vector, c: Vector) -> None:
    y, state = one_step(cell, X, [H, C])
    assert_close((y, state), (h, [h, c]), rtol=0, atol=1e-14)


def test_peepholes_i_and_f_see_the_old_cell_and_o_the_new_one() -> None:
    cell: Any = shaken(PeepholeLSTM(3, 2))
    gates = plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist(), times(cell.from_state.weight, H))
    i, f, g, o = parts(gates, 4)
    p_i, p_f, p_o = parts(cell.peepholes.tolist(), 3)
    c = [
        sigma(f[j] + p_f[j] * C[j]) * C[j] + sigma(i[j] + p_i[j] * C[j]) * math.tanh(g[j])
        for j in range(2)
    ]  # fmt: skip
    check(cell, [sigma(o[j] + p_o[j] * c[j]) * math.tanh(c[j]) for j in range(2)], c)


def test_without_peepholes_it_is_torchs_lstm() -> None:
    """Over time, ragged and both ways, gradients too; torch's two biases are our one."""
    ours = Recurrent(PeepholeLSTM, 3, hidden_size=4, bidirectional=True).double()
    theirs = nn.LSTM(3, 4, bidirectional=True, dtype=torch.float64)
    with torch.no_grad():
        for cell, suffix in zip(ours.cells, ("", "_reverse"), strict=True):
            cell.peepholes.zero_()
            cell.from_input.weight.copy_(getattr(theirs, f"weight_ih_l0{suffix}"))
            cell.from_state.weight.copy_(getattr(theirs, f"weight_hh_l0{suffix}"))
            cell.from_input.bias.copy_(getattr(theirs, f"bias_ih_l0{suffix}") + getattr(theirs, f"bias_hh_l0{suffix}"))
    x = torch.randn(6, 3, 3, dtype=torch.float64, requires_grad=True)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 2, 4]), enforce_sorted=False)
    expected, (h, c) = theirs(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(expected)
    y, state = ours(x, lengths=torch.tensor([6, 2, 4]))
    assert_close((y, *state), (expected, h, c), rtol=0, atol=1e-14)
    gradients = [torch.autograd.grad(each.square().sum(), x)[0] for each in (y, expected)]
    assert_close(*gradients, rtol=0, atol=1e-14)


def test_coupled_gates_share_the_cell_between_old_and_new() -> None:
    cell: Any = shaken(CoupledLSTM(3, 2))
    gates = plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist(), times(cell.from_state.weight, H))
    f, g, o = parts(gates, 3)
    c = [sigma(f[j]) * C[j] + (1 - sigma(f[j])) * math.tanh(g[j]) for j in range(2)]
    check(cell, [sigma(o[j]) * math.tanh(c[j]) for j in range(2)], c)


def test_layer_norms_are_those_of_the_paper() -> None:
    cell: Any = shaken(LayerNormLSTM(3, 2))
    gates = plus(
        normalised(times(cell.from_input.weight, X), cell.norm_input.weight.tolist()),
        normalised(times(cell.from_state.weight, H), cell.norm_state.weight.tolist()),
        cell.norm_input.bias.tolist(),
    )
    i, f, g, o = parts(gates, 4)
    c = [sigma(f[j]) * C[j] + sigma(i[j]) * math.tanh(g[j]) for j in range(2)]
    shown = plus(normalised(c, cell.norm_cell.weight.tolist()), cell.norm_cell.bias.tolist())
    check(cell, [sigma(o[j]) * math.tanh(shown[j]) for j in range(2)], c)


def test_layer_norm_cannot_see_the_scale_of_its_weights() -> None:
    """A step from a state that is far from zero, whose norm the constant under the root does not touch."""
    cell = LayerNormLSTM(3, 8).double()
    x, state = 100 * torch.randn(1, 2, 3).double(), (100 * torch.randn(2, 8).double(), torch.randn(2, 8).double())
    before, _ = cell.step(cell.project(x)[0], state)
    with torch.no_grad():
        cell.from_input.weight.mul_(7)
        cell.from_state.weight.mul_(3)
    after, _ = cell.step(cell.project(x)[0], state)
    assert_close(after, before, rtol=0, atol=1e-6)


def test_one_number_has_no_norm() -> None:
    with pytest.raises(ValueError, match="hidden_size must be >= 2 under layer normalisation, got 1"):
        LayerNormLSTM(3, 1)


@pytest.mark.parametrize(
    ("cell", "bias", "gate"),
    [
        (PeepholeLSTM, "from_input.bias", slice(4, 8)),
        (CoupledLSTM, "from_input.bias", slice(0, 4)),
        (LayerNormLSTM, "norm_input.bias", slice(4, 8)),
    ],
)
def test_forget_bias_is_added_to_the_forget_gate_alone(cell: type[Cell], bias: str, gate: slice) -> None:
    states = []
    for forget_bias in (0.0, 1.5):
        torch.manual_seed(0)
        states.append(cell(3, 4, forget_bias=forget_bias).state_dict())  # type: ignore[call-arg]  # these cells have it
    plain, biased = states
    expected = plain[bias].clone()
    expected[gate] += 1.5
    assert_close(biased[bias], expected)
    assert all(torch.equal(biased[name], plain[name]) for name in plain if name != bias)


@pytest.mark.parametrize("cell", [PeepholeLSTM, CoupledLSTM, LayerNormLSTM])
def test_a_high_forget_bias_keeps_the_cell(cell: type[Cell]) -> None:
    """What the gate that it is added to does: c stays whole, and is gone in one step where it is low."""
    for forget_bias, kept in ((1e3, 1.0), (-1e3, 0.0)):
        recurrent = Recurrent(cell, 3, hidden_size=4, forget_bias=forget_bias).double()
        if cell is PeepholeLSTM:  # whose input gate would see c as well
            torch.nn.init.zeros_(recurrent.cells[0].peepholes)
        c = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
        _, (_, end) = recurrent(torch.randn(1, 2, 3, dtype=torch.float64), (torch.zeros_like(c), c))
        (slope,) = torch.autograd.grad(end.sum(), c)
        assert_close(slope, torch.full_like(slope, kept), rtol=0, atol=1e-12)
