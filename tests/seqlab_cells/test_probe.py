"""What cells say of their own steps, against autograd and the decks' formulas."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import Cell
from seqlab.contracts.probe import Gate
from seqlab.plugins import find, plugins
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

INPUT, HIDDEN, T = 3, 4, 7


def close(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def walk(cell: Cell, rows: int = 1) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Give the projected inputs, and all states of a run from a random one."""
    x = cell.project(torch.randn(T, rows, INPUT, dtype=torch.float64))
    state = tuple(torch.randn_like(leaf) for leaf in cell.initial_state(x[0]))
    states = [state]
    for step in x:
        states.append(cell.step(step, states[-1])[1])
    leaves = tuple(torch.stack(leaf).detach() for leaf in zip(*states, strict=True))
    return x.detach(), leaves


def lstm() -> LSTM:
    torch.manual_seed(0)
    return LSTM(INPUT, HIDDEN).double()


@torch.enable_grad()
def test_the_four_terms_of_the_lstm_are_autograds() -> None:
    r"""dc_t/dc_{t-1} of deck 004, where h_{t-1} = o_{t-1} tanh(c_{t-1}) with o_{t-1} held fast, and their product."""
    cell = lstm()
    x, (h, c) = walk(cell)
    probe = cell.probe(x, (h, c))
    output = probe.gates["output"].values
    product = torch.eye(HIDDEN, dtype=torch.float64)
    pulled = torch.eye(HIDDEN, dtype=torch.float64)
    for t in range(T - 1, 0, -1):

        def after(before: Tensor, t: int = t) -> Tensor:
            hidden = output[t - 1, 0] * torch.tanh(before)
            return cell.step(x[t], (hidden[None], before[None]))[1][1][0]

        step = torch.autograd.functional.jacobian(after, c[t, 0])
        close(probe.terms["c"](t, torch.eye(HIDDEN, dtype=torch.float64)), step)
        product, pulled = product @ step, probe.terms["c"](t, pulled)
    close(pulled, product)


@torch.enable_grad()
def test_the_product_of_forget_gates_is_dc_t_with_the_other_terms_cut() -> None:
    r"""dc_T/dc_t = prod f_i of deck 000: autograd through the cell whose gates read states that are held fast."""
    cell = lstm()
    x, (h, c) = walk(cell)
    forget = cell.probe(x, (h, c)).forget["c"]
    for begin in range(T):

        def last(before: Tensor, begin: int = begin) -> Tensor:
            now = before[None]
            for t in range(begin, T):
                now = cell.step(x[t], (h[t], now))[1][1]
            return now[0]

        close(torch.autograd.functional.jacobian(last, c[begin, 0]), torch.diag(forget[begin:, 0].prod(0)))


def test_the_gain_of_an_rnn_is_reached_by_a_matrix_whose_jacobian_is_a_multiple_of_a_rotation() -> None:
    cell = RNN(INPUT, HIDDEN).double()
    rotation, _ = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, dtype=torch.float64))
    with torch.no_grad():
        cell.from_state.weight.copy_(2 * rotation)
    zeros = torch.zeros(T + 1, 1, HIDDEN, dtype=torch.float64)
    probe = cell.probe(zeros[1:], (zeros,))
    assert probe.gain is not None
    close(probe.gain, torch.full((T, 1), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(plugins("cell")))
@torch.no_grad()
def test_gates_stay_in_their_ranges(name: str) -> None:
    torch.manual_seed(0)
    cell: Cell = find("cell", name).load()(INPUT, HIDDEN).double()
    x, states = walk(cell, rows=2)
    probe = cell.probe(x, states)
    assert probe.gates, "every cell of ours shows its gates"
    for gate in probe.gates.values():
        assert gate.values.shape[:2] == (T, 2)
        assert float(gate.values.min()) >= gate.low
        assert float(gate.values.max()) <= gate.high
    for leaf, factor in probe.forget.items():
        assert torch.all((factor > 0) & (factor < 1)), leaf


def test_the_gates_of_a_gru_and_an_lstm_make_the_next_state() -> None:
    cell: Cell = find("cell", "gru").load()(INPUT, HIDDEN).double()
    x, (h,) = walk(cell, rows=2)
    gates = {name: gate.values for name, gate in cell.probe(x, (h,)).gates.items()}
    close((1 - gates["update"]) * gates["candidate"] + gates["update"] * h[:-1], h[1:])
    for name in ("lstm", "peephole_lstm", "layer_norm_lstm"):
        cell = find("cell", name).load()(INPUT, HIDDEN).double()
        x, states = walk(cell, rows=2)
        gates = {key: gate.values for key, gate in cell.probe(x, states).gates.items()}
        close(gates["forget"] * states[1][:-1] + gates["input"] * gates["candidate"], states[1][1:])
        if name != "layer_norm_lstm":
            close(gates["output"] * torch.tanh(states[1][1:]), states[0][1:])
    cell = find("cell", "coupled_lstm").load()(INPUT, HIDDEN).double()
    x, states = walk(cell, rows=2)
    gates = {key: gate.values for key, gate in cell.probe(x, states).gates.items()}
    close(gates["forget"] * states[1][:-1] + (1 - gates["forget"]) * gates["candidate"], states[1][1:])


def test_saturation_is_counted_at_both_ends() -> None:
    low, high = Gate(torch.tensor([0.05, 0.1, 0.5, 0.9, 0.95])).saturated()
    assert (low.tolist(), high.tolist()) == ([True] + 4 * [False], 4 * [False] + [True])
    low, high = Gate(torch.tensor([-0.95, -0.85, 0.85, 0.95]), -1.0, 1.0).saturated()
    assert (low.tolist(), high.tolist()) == ([True] + 3 * [False], 3 * [False] + [True])
    low, high = Gate(torch.tensor([0.0, 0.01, 99.0]), 0.0, float("inf")).saturated()
    assert (low.tolist(), high.tolist()) == ([True, False, False], 3 * [False])
