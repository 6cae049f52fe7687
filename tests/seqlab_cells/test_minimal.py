"""MinGRU and MinLSTM compute their paper's equations, also where gates are saturated."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seqlab import Cell, Recurrent
from seqlab_cells.mingru import MinGRU
from seqlab_cells.minlstm import MinLSTM
from seqlab_cells.parallel import positive

from .by_hand import one_step, parts, plus, shaken, sigma, times

X, H = [0.3, -1.2, 0.7], [0.4, -0.9, 1.1, -2.0]

both_cells = pytest.mark.parametrize("cell", [MinGRU, MinLSTM])
both_kernels = pytest.mark.parametrize("kernel", ["loop", "parallel"])


def g(v: float) -> float:
    return v + 0.5 if v >= 0 else sigma(v)


def mixed(values: list[float]) -> list[float]:
    assert len({value >= 0 for value in values}) == 2  # both branches of g
    return [g(value) for value in values]


def test_mingru_by_hand() -> None:
    cell: Any = shaken(MinGRU(3, 4))
    z, v = parts(plus(times(cell.from_input.weight, X), cell.from_input.bias.tolist()), 2)
    v = mixed(v)
    expected = [(1 - sigma(z[j])) * H[j] + sigma(z[j]) * v[j] for j in range(4)]
    assert_close(one_step(cell, X, [H]), (expected, [expected]), rtol=0, atol=1e-14)


def test_minlstm_by_hand() -> None:
    cell: Any = shaken(MinLSTM(3, 4))
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


@both_kernels
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


@both_kernels
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


@both_cells
def test_the_step_does_no_work_that_the_input_alone_needs(cell: Any) -> None:
    """Of a step, one product and one sum are left; no parameter takes part in it."""
    made = cell(3, 4).double()
    x, h = torch.randn(1, 2, 3).double(), torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    y, _ = made.step(made.project(x)[0].detach(), (h,))
    assert torch.autograd.grad(y.sum(), list(made.parameters()), allow_unused=True) == (None,) * 2
