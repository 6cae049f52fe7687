"""Cells compute the equations of their papers, worked examples, and their limits at saturated gates."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seqlab import Cell, Recurrent
from seqlab_cells.coupled_lstm import CoupledLSTM
from seqlab_cells.indrnn import IndRNN
from seqlab_cells.layer_norm_lstm import LayerNormLSTM
from seqlab_cells.lstm import LSTM
from seqlab_cells.mingru import MinGRU
from seqlab_cells.minlstm import MinLSTM
from seqlab_cells.parallel import positive
from seqlab_cells.peephole_lstm import PeepholeLSTM
from seqlab_cells.rnn import RNN

from .common import (
    Vector,
    both_kernels,
    network,
    normalised,
    one_step,
    parts,
    plus,
    shaken,
    sigma,
    times,
)  # fmt: skip

X, H, C = [0.3, -1.2, 0.7], [0.4, -0.9, 1.1, -2.0], [1.6, -0.2]
loop_and_parallel = pytest.mark.parametrize("kernel", ["loop", "parallel"])


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
    """x = 1, h = 1, c = 2. The gates round to 0.986, 0.997, 0.966 and 0.992."""
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
    assert abs(float(c) - 2.946) < 2e-3  # from rounded gates
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
    """Set the weights; a single bias goes to the input, and zero to the state."""
    with torch.no_grad():
        for parameter, value in zip(cell.parameters(), (w, b, u, torch.zeros_like(b)), strict=True):
            parameter.copy_(value)


def check_lstm(cell: Cell, h: Vector, c: Vector) -> None:
    y, state = one_step(cell, X, [H[:2], C])
    assert_close((y, state), (h, [h, c]), rtol=0, atol=1e-14)


def test_peepholes_i_and_f_see_the_old_cell_and_o_the_new_one() -> None:
    cell = shaken(PeepholeLSTM(3, 2))
    gates = plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist(), times(cell.from_state.weight, H[:2]))
    i, f, g, o = parts(gates, 4)
    p_i, p_f, p_o = parts(cell.peepholes.tolist(), 3)
    c = [
        sigma(f[j] + p_f[j] * C[j]) * C[j] + sigma(i[j] + p_i[j] * C[j]) * math.tanh(g[j])
        for j in range(2)
    ]  # fmt: skip
    check_lstm(cell, [sigma(o[j] + p_o[j] * c[j]) * math.tanh(c[j]) for j in range(2)], c)


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
    cell = shaken(CoupledLSTM(3, 2))
    gates = plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist(), times(cell.from_state.weight, H[:2]))
    f, g, o = parts(gates, 3)
    c = [sigma(f[j]) * C[j] + (1 - sigma(f[j])) * math.tanh(g[j]) for j in range(2)]
    check_lstm(cell, [sigma(o[j]) * math.tanh(c[j]) for j in range(2)], c)


def test_layer_norms_are_those_of_the_paper() -> None:
    cell = shaken(LayerNormLSTM(3, 2))
    gates = plus(
        normalised(times(cell.from_input.weight, X), cell.norm_input.weight.tolist()),
        normalised(times(cell.from_state.weight, H[:2]), cell.norm_state.weight.tolist()),
        cell.norm_input.bias.tolist(),
    )
    i, f, g, o = parts(gates, 4)
    c = [sigma(f[j]) * C[j] + sigma(i[j]) * math.tanh(g[j]) for j in range(2)]
    shown = plus(normalised(c, cell.norm_cell.weight.tolist()), cell.norm_cell.bias.tolist())
    check_lstm(cell, [sigma(o[j]) * math.tanh(shown[j]) for j in range(2)], c)


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


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_indrnn_by_hand(nonlinearity: Any) -> None:
    cell = shaken(IndRNN(3, 4, nonlinearity))
    total = plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist())
    total = plus(total, [u * each for u, each in zip(cell.from_itself.tolist(), H, strict=True)])
    expected = [max(v, 0.0) if nonlinearity == "relu" else math.tanh(v) for v in total]
    assert len({v > 0 for v in total}) == 2  # both sides of relu
    assert_close(one_step(cell, X, [H]), (expected, [expected]), rtol=0, atol=1e-14)


def test_jacobian_of_an_indrnn_over_n_steps_is_the_nth_power_of_each_units_weight() -> None:
    """A relu that stays positive is linear; no unit sees another."""
    recurrent = Recurrent(IndRNN, 3, hidden_size=4).double()
    (cell,) = recurrent.cells
    with torch.no_grad():
        cell.from_input.weight.zero_()
        cell.from_input.bias.fill_(1.0)

    def last(h: torch.Tensor) -> torch.Tensor:
        return recurrent(torch.zeros(9, 1, 3, dtype=torch.float64), (h.view(1, 1, 4),))[0][-1, 0]

    jacobian = torch.autograd.functional.jacobian(last, torch.ones(4, dtype=torch.float64))
    assert_close(jacobian, torch.diag(cell.from_itself.detach() ** 9), rtol=1e-12, atol=0)


def g(v: float) -> float:
    return v + 0.5 if v >= 0 else sigma(v)


def mixed(values: list[float]) -> list[float]:
    assert len({value >= 0 for value in values}) == 2  # both branches of g
    return [g(value) for value in values]


def test_mingru_by_hand() -> None:
    cell = shaken(MinGRU(3, 4))
    z, v = parts(plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist()), 2)
    v = mixed(v)
    expected = [(1 - sigma(z[j])) * H[j] + sigma(z[j]) * v[j] for j in range(4)]
    assert_close(one_step(cell, X, [H]), (expected, [expected]), rtol=0, atol=1e-14)


def test_minlstm_by_hand() -> None:
    cell = shaken(MinLSTM(3, 4))
    f, i, v = parts(plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist()), 3)
    v = mixed(v)
    keep = [sigma(f[j]) / (sigma(f[j]) + sigma(i[j])) for j in range(4)]
    take = [sigma(i[j]) / (sigma(f[j]) + sigma(i[j])) for j in range(4)]
    expected = [keep[j] * H[j] + take[j] * v[j] for j in range(4)]
    assert_close(one_step(cell, X, [H]), (expected, [expected]), rtol=0, atol=1e-14)


def test_candidates_are_positive_and_g_is_continuous_and_rises() -> None:
    x = torch.linspace(-700, 700, 1401, dtype=torch.float64)
    assert (positive(x) > 0).all()
    assert (positive(x).diff() >= 0).all()
    around = torch.tensor([-1e-12, 0.0, 1e-12], dtype=torch.float64)
    assert_close(positive(around), torch.full_like(around, 0.5), rtol=0, atol=1e-11)


def saturated(cell: type[Cell], kernel: str, biases: list[float], dtype: torch.dtype) -> Recurrent:
    """The gates' biases outweigh everything else; the candidates are drawn from the input."""
    torch.manual_seed(0)
    recurrent = Recurrent(cell, 3, hidden_size=4, kernel=kernel).to(dtype)
    with torch.no_grad():
        gates = recurrent.cells[0].from_input.bias.view(-1, 4)
        for gate, bias in zip(gates, biases, strict=False):
            gate.fill_(bias)
    return recurrent


@loop_and_parallel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("cell", "biases", "kept"),
    [
        (MinGRU, [-1e4], 1.0),
        (MinGRU, [1e4], 0.0),
        (MinLSTM, [1e4, -1e4], 1.0),
        (MinLSTM, [-1e4, 1e4], 0.0),
        (MinLSTM, [-1e30, -2e30], 1.0),
    ],
)
def test_gates_at_their_ends(cell: type[Cell], biases: list[float], kept: float, kernel: str, dtype: Any) -> None:
    """The state of 40 steps ago bit by bit, or the last candidate; the slope is exactly 1 or 0, never NaN."""
    recurrent = saturated(cell, kernel, biases, dtype)
    x = torch.randn(40, 2, 3, dtype=dtype, requires_grad=True)
    start = torch.randn(1, 2, 4, dtype=dtype, requires_grad=True)
    y, (end,) = recurrent(x, (start,))
    candidate = positive(recurrent.cells[0].from_input(x)[..., -4:])
    assert_close(y, start.expand_as(y) if kept else candidate, rtol=1e-6, atol=0)
    slopes = torch.autograd.grad(end.sum(), [start, x, *recurrent.parameters()])
    assert torch.equal(slopes[0], torch.full_like(start, kept))
    assert all(torch.isfinite(slope).all() for slope in slopes)
    if kept:
        assert torch.equal(end, start)


@loop_and_parallel
def test_minlstm_gates_that_both_round_to_zero_share_the_state(kernel: str) -> None:
    """0 / (0 + 0) by the formula; the gates are equal in truth, and each gets its half."""
    recurrent = saturated(MinLSTM, kernel, [-1e3, -1e3], torch.float64)
    with torch.no_grad():
        recurrent.cells[0].from_input.weight[:8].zero_()
    x, h = torch.randn(3, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    y, _ = recurrent(x, (h.unsqueeze(0),))
    for seen, v in zip(y, positive(recurrent.cells[0].from_input(x)[..., -4:]), strict=True):
        h = (h + v) / 2
        assert_close(seen, h, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", [MinGRU, MinLSTM])
def test_the_step_does_no_work_that_the_input_alone_needs(cell: Any) -> None:
    """Of a step, one product and one sum are left; no parameter takes part in it."""
    made = cell(3, 4).double()
    x, h = torch.randn(1, 2, 3).double(), torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    y, _ = made.step(made.project(x)[0].detach(), (h,))
    assert torch.autograd.grad(y.sum(), list(made.parameters()), allow_unused=True) == (None,) * 2
