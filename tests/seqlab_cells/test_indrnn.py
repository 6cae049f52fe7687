"""IndRNN: each unit remembers itself alone."""

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seqlab import Recurrent
from seqlab_cells.indrnn import IndRNN

from .by_hand import one_step, plus, shaken, times


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_one_step_by_hand(nonlinearity: Any) -> None:
    cell: Any = shaken(IndRNN(3, 4, nonlinearity))
    x, h = [0.3, -1.2, 0.7], [0.4, -0.9, 1.1, -2.0]
    total = plus(times(cell.from_input.weight, x), cell.from_input.bias.tolist())
    total = plus(total, [u * each for u, each in zip(cell.from_itself.tolist(), h, strict=True)])
    expected = [max(v, 0.0) if nonlinearity == "relu" else math.tanh(v) for v in total]
    assert len({v > 0 for v in total}) == 2  # both sides of relu
    assert_close(one_step(cell, x, [h]), (expected, [expected]), rtol=0, atol=1e-14)


def test_jacobian_over_n_steps_is_the_nth_power_of_each_units_weight() -> None:
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


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_recurrent_weights_begin_between_0_and_1(nonlinearity: str) -> None:
    torch.manual_seed(0)
    u = Recurrent(IndRNN, 3, hidden_size=1000, nonlinearity=nonlinearity).cells[0].from_itself.detach()
    assert 0 <= u.min() < 0.01
    assert 0.99 < u.max() <= 1
    assert abs(float(u.mean()) - 0.5) < 0.04  # four standard errors


def test_an_unknown_nonlinearity_is_named() -> None:
    unchecked: Any = IndRNN.__init__.__wrapped__  # type: ignore[attr-defined]  # below the type checks of the tests
    with pytest.raises(ValueError, match="nonlinearity is 'gelu'; it must be relu or tanh"):
        unchecked(IndRNN.__new__(IndRNN), 3, 4, "gelu")
