"""Gradients and Jacobians in closed form against autograd, and what cells report of their own steps."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import Cell
from seqlab.contracts.cell import Gate
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

from .common import CELLS, HIDDEN, INPUT, both_kernels, every_cell, every_network, network

T = 6


def close(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@both_kernels
def test_gradient_of_the_loss_to_each_logit_is_p_minus_one_hot(kernel: str) -> None:
    """Negative log-likelihood of a softmax at every step, over the outputs of a recurrent network."""
    recurrent = network("lstm", kernel)
    x = torch.randn(T, 3, INPUT, dtype=torch.float64)
    logits = recurrent(x)[0]
    logits.retain_grad()
    target = torch.randint(HIDDEN, (T, 3))
    torch.nn.functional.nll_loss(logits.log_softmax(-1).flatten(0, 1), target.flatten(), reduction="sum").backward()
    p = logits.detach().exp() / logits.detach().exp().sum(-1, keepdim=True)
    assert logits.grad is not None
    close(logits.grad, p - torch.eye(HIDDEN, dtype=torch.float64)[target])


@every_network
@both_kernels
def test_gradient_of_a_shared_weight_is_the_sum_over_its_copies(kind: str, kernel: str) -> None:
    """Back-propagation through time: give every step its own copy of each weight, and add up their gradients."""
    recurrent = network(kind, kernel)
    x = torch.randn(T, 3, INPUT, dtype=torch.float64)
    (cell,) = recurrent.cells
    copies = [{name: p.detach().clone().requires_grad_() for name, p in cell.named_parameters()} for _ in x]
    state, outputs = cell.initial_state(x[0]), []
    for step, copy in zip(x, copies, strict=True):
        output, state = torch.func.functional_call(
            _Step(cell), {f"cell.{n}": p for n, p in copy.items()}, (step, state)
        )
        outputs.append(output)
    torch.stack(outputs).square().sum().backward()
    recurrent(x)[0].square().sum().backward()
    for name, parameter in cell.named_parameters():
        assert parameter.grad is not None
        close(parameter.grad, torch.stack([copy[name].grad for copy in copies]).sum(0))  # type: ignore[arg-type]  # each has a gradient by now


class _Step(torch.nn.Module):
    """One step of a cell as a module's call, which is what ``functional_call`` can give other weights."""

    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.cell.step(self.cell.project(x.unsqueeze(0))[0], state)


@both_kernels
def test_rnn_jacobian_is_the_product_of_its_steps(kernel: str) -> None:
    r"""dh_T/dh_0 = prod_t diag(1 - h_t^2) W_hh, the factor of the last step leftmost."""
    recurrent = network("rnn_tanh", kernel)
    (cell,) = recurrent.cells
    assert isinstance(cell, RNN)
    x = torch.randn(T, 1, INPUT, dtype=torch.float64)
    h_0 = torch.randn(HIDDEN, dtype=torch.float64)

    def last(h: Tensor) -> Tensor:
        return recurrent(x, (h.view(1, 1, HIDDEN),))[0][-1, 0]

    expected = torch.eye(HIDDEN, dtype=torch.float64)
    for h in recurrent(x, (h_0.view(1, 1, HIDDEN),))[0][:, 0]:
        expected = torch.diag(1 - h**2) @ cell.from_state.weight @ expected
    close(torch.autograd.functional.jacobian(last, h_0), expected)


@both_kernels
def test_lstm_cell_jacobian_without_gate_recurrence_is_the_product_of_forget_gates(kernel: str) -> None:
    """dc_T/dc_0 = prod_t diag(f_t), where the gates read the input alone (their recurrent weights are cut)."""
    recurrent = network("lstm", kernel)
    (cell,) = recurrent.cells
    assert isinstance(cell, LSTM)
    with torch.no_grad():
        cell.from_state.weight.zero_()
    x, (h_0, c_0) = torch.randn(T, 1, INPUT, dtype=torch.float64), torch.randn(2, HIDDEN, dtype=torch.float64)

    def last(c: Tensor) -> Tensor:
        return recurrent(x, (h_0.view(1, 1, HIDDEN), c.view(1, 1, HIDDEN)))[1][1].flatten()

    f = torch.sigmoid((cell.project(x) + cell.from_state.bias).chunk(4, dim=-1)[1])
    close(torch.autograd.functional.jacobian(last, c_0), torch.diag(f[:, 0].prod(0)))


def test_lstm_cell_jacobian_has_four_terms() -> None:
    r"""dc_t/dc_{t-1} in full, where h_{t-1} = o_{t-1} tanh(c_{t-1}) feeds all the gates.

    diag(f) + diag(c_{t-1} f') U_f J + diag(g i') U_i J + diag(i g') U_g J, with J = diag(o_{t-1} (1 - tanh^2 c_{t-1})).
    """
    cell = LSTM(INPUT, HIDDEN).double()
    x = cell.project(torch.randn(1, 1, INPUT, dtype=torch.float64))[0]
    c_before, o_before = torch.randn(HIDDEN, dtype=torch.float64), torch.rand(HIDDEN, dtype=torch.float64)

    def after(c: Tensor) -> Tensor:
        h = o_before * torch.tanh(c)
        return cell.step(x, (h.unsqueeze(0), c.unsqueeze(0)))[1][1][0]

    gates = x + cell.from_state((o_before * torch.tanh(c_before)).unsqueeze(0))
    i, f, g, _ = gates[0].chunk(4)
    i, f, g = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g)
    u_i, u_f, u_g, _ = cell.from_state.weight.chunk(4)
    J = torch.diag(o_before * (1 - torch.tanh(c_before) ** 2))
    slopes = ((c_before * f * (1 - f), u_f), (g * i * (1 - i), u_i), (i * (1 - g**2), u_g))
    expected = torch.diag(f) + sum(torch.diag(slope) @ u @ J for slope, u in slopes)
    close(torch.autograd.functional.jacobian(after, c_before), expected)


@both_kernels
@pytest.mark.parametrize("radius", [0.5, 2.0])
def test_gradient_over_n_steps_is_the_nth_power(kernel: str, radius: float) -> None:
    """0.5^n vanishes and 2^n explodes: a relu RNN that stays positive is linear."""
    recurrent = network("rnn_relu", kernel)
    (cell,) = recurrent.cells
    assert isinstance(cell, RNN)
    with torch.no_grad():
        cell.from_state.weight.copy_(radius * torch.eye(HIDDEN))
        cell.from_state.bias.fill_(1.0)
    h_0 = torch.ones(1, 1, HIDDEN, dtype=torch.float64, requires_grad=True)
    (h,) = recurrent(torch.zeros(10, 1, INPUT, dtype=torch.float64), (h_0,))[1]
    (gradient,) = torch.autograd.grad(h.sum(), h_0)
    close(gradient, torch.full_like(gradient, radius**10))


def run_steps(cell: Cell, rows: int = 1) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the projected inputs, and all states of a run from a random one."""
    x = cell.project(torch.randn(T, rows, INPUT, dtype=torch.float64))
    state = tuple(torch.randn_like(each) for each in cell.initial_state(x[0]))
    states = [state]
    for step in x:
        states.append(cell.step(step, states[-1])[1])
    return x.detach(), tuple(torch.stack(each).detach() for each in zip(*states, strict=True))


def lstm() -> LSTM:
    torch.manual_seed(0)
    return LSTM(INPUT, HIDDEN).double()


@torch.enable_grad()
def test_the_four_terms_of_the_lstm_are_autograds() -> None:
    r"""dc_t/dc_{t-1}, where h_{t-1} = o_{t-1} tanh(c_{t-1}) with o_{t-1} held fast, and their product."""
    cell = lstm()
    x, (h, c) = run_steps(cell)
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
    r"""dc_T/dc_t = prod f_i: autograd through the cell whose gates read states that are held fast."""
    cell = lstm()
    x, (h, c) = run_steps(cell)
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


@every_cell
@torch.no_grad()
def test_gates_stay_in_their_ranges(cell: type[Cell]) -> None:
    torch.manual_seed(0)
    made = cell(INPUT, HIDDEN).double()
    x, states = run_steps(made, rows=2)
    probe = made.probe(x, states)
    assert probe.gates, "every cell of ours shows its gates"
    for gate in probe.gates.values():
        assert gate.values.shape[:2] == (T, 2)
        assert float(gate.values.min()) >= gate.low
        assert float(gate.values.max()) <= gate.high
    for name, factor in probe.forget.items():
        assert torch.all((factor > 0) & (factor < 1)), name


def test_the_gates_of_a_gru_and_an_lstm_make_the_next_state() -> None:
    cell: Cell = CELLS["gru"](INPUT, HIDDEN).double()
    x, (h,) = run_steps(cell, rows=2)
    gates = {name: gate.values for name, gate in cell.probe(x, (h,)).gates.items()}
    close((1 - gates["update"]) * gates["candidate"] + gates["update"] * h[:-1], h[1:])
    for name in ("lstm", "peephole_lstm", "layer_norm_lstm"):
        cell = CELLS[name](INPUT, HIDDEN).double()
        x, states = run_steps(cell, rows=2)
        gates = {key: gate.values for key, gate in cell.probe(x, states).gates.items()}
        close(gates["forget"] * states[1][:-1] + gates["input"] * gates["candidate"], states[1][1:])
        if name != "layer_norm_lstm":
            close(gates["output"] * torch.tanh(states[1][1:]), states[0][1:])
    cell = CELLS["coupled_lstm"](INPUT, HIDDEN).double()
    x, states = run_steps(cell, rows=2)
    gates = {key: gate.values for key, gate in cell.probe(x, states).gates.items()}
    close(gates["forget"] * states[1][:-1] + (1 - gates["forget"]) * gates["candidate"], states[1][1:])


def test_saturation_is_counted_at_both_ends() -> None:
    low, high = Gate(torch.tensor([0.05, 0.1, 0.5, 0.9, 0.95])).saturated()
    assert (low.tolist(), high.tolist()) == ([True] + 4 * [False], 4 * [False] + [True])
    low, high = Gate(torch.tensor([-0.95, -0.85, 0.85, 0.95]), -1.0, 1.0).saturated()
    assert (low.tolist(), high.tolist()) == ([True] + 3 * [False], 3 * [False] + [True])
    low, high = Gate(torch.tensor([0.0, 0.01, 99.0]), 0.0, float("inf")).saturated()
    assert (low.tolist(), high.tolist()) == ([True, False, False], 3 * [False])
