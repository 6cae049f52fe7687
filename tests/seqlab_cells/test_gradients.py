"""The gradients that lectures derive, against autograd through the cells."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

from .networks import HIDDEN, INPUT, both_kernels, every_network, network

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
