"""How the cells are made, and what they refuse to be."""

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from seqlab import Cell, Recurrent
from seqlab.plugins.registry import find
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN

every_cell = pytest.mark.parametrize("cell", [RNN, LSTM, GRU])


@every_cell
def test_is_registered_under_its_own_name(cell: type[Cell]) -> None:
    assert find("cell", cell.__name__.lower()).load() is cell


@every_cell
def test_parameters_begin_as_torchs_do(cell: type[Cell]) -> None:
    """Uniform in +-1/sqrt(hidden), biases too: all within the bound, and spread over it as a uniform draw is."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"forget_bias": 0.0} if cell is LSTM else {}
    for parameter in cell(40, hidden_size=100, **options).parameters():
        bound = 0.1
        assert parameter.abs().max() <= bound
        assert parameter.abs().max() > 0.9 * bound
        assert abs(float(parameter.detach().std()) - bound / math.sqrt(3)) < 0.2 * bound


def test_forget_bias_is_added_once_to_the_forget_gates_input_bias() -> None:
    cells = []
    for forget_bias in (0.0, 1.5):
        torch.manual_seed(0)
        cells.append(LSTM(3, 4, forget_bias=forget_bias))
    plain, biased = (cell.state_dict() for cell in cells)
    difference = biased.pop("from_input.bias") - plain.pop("from_input.bias")
    torch.testing.assert_close(difference, torch.tensor([0.0] * 4 + [1.5] * 4 + [0.0] * 8))
    assert all(torch.equal(biased[name], plain[name]) for name in plain)


@every_cell
def test_hidden_size_is_128_unless_said(cell: type[Cell]) -> None:
    assert cell(3).hidden_size == cell(3).output_size == 128


@every_cell
@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 4), "input_size must be >= 1, got 0"), ((3, -4), "hidden_size must be >= 1, got -4")],
)
def test_sizes_are_positive(cell: type[Cell], sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cell(*sizes)


def test_an_unknown_nonlinearity_is_named() -> None:
    unchecked: Any = RNN.__init__.__wrapped__  # type: ignore[attr-defined]  # below the type checks of the tests
    with pytest.raises(ValueError, match="nonlinearity is 'gelu'; it must be tanh or relu"):
        unchecked(RNN.__new__(RNN), 3, 4, "gelu")


def test_an_unknown_initialisation_is_named() -> None:
    unchecked: Any = RNN.__init__.__wrapped__  # type: ignore[attr-defined]  # below the type checks of the tests
    with pytest.raises(ValueError, match="initialisation is 'zeros'; it must be torch or identity"):
        unchecked(RNN.__new__(RNN), 3, 4, "relu", "zeros")


@torch.no_grad()
def test_identity_initialisation_is_that_of_irnn() -> None:
    """U = I, no biases, W drawn with a deviation of 0.001; a positive state then stays as it is without input."""
    torch.manual_seed(0)
    cell = RNN(100, 50, nonlinearity="relu", initialisation="identity")
    assert torch.equal(cell.from_state.weight, torch.eye(50))
    assert not cell.from_state.bias.any()
    assert not cell.from_input.bias.any()
    assert abs(float(cell.from_input.weight.std()) - 1e-3) < 5e-5  # seven standard errors
    assert abs(float(cell.from_input.weight.mean())) < 5e-5  # four
    start = torch.rand(1, 2, 50)
    recurrent = Recurrent(RNN, 100, hidden_size=50, nonlinearity="relu", initialisation="identity")
    assert torch.equal(recurrent(torch.zeros(30, 2, 100), (start,))[1][0], start)


def test_shapes_are_checked_while_tests_run() -> None:
    """The import hook is in place: what a step is annotated with is what it gets."""
    cell = GRU(3, 4)
    with pytest.raises(TypeCheckError):
        cell.step(torch.zeros(2, 2, 12), cell.initial_state(torch.zeros(2, 3)))


@every_cell
def test_gradients_agree_with_finite_differences(cell: type[Cell]) -> None:
    """The loop differentiates; through two layers, both ways, over ragged rows."""
    recurrent = Recurrent(cell, 2, hidden_size=2, depth=2, bidirectional=True, kernel="loop").double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda x: recurrent(x, lengths=lengths)[0], x)


@every_cell
def test_autocast_keeps_the_state_in_float32(cell: type[Cell]) -> None:
    recurrent = Recurrent(cell, 4, hidden_size=5, depth=2, bidirectional=True)
    x = torch.randn(6, 3, 4)
    expected, _ = recurrent(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, state = recurrent(x, lengths=torch.tensor([6, 6, 6]))
    assert {leaf.dtype for leaf in state} == {torch.float32}
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.03)


@every_cell
def test_the_two_maps_are_all_there_is(cell: type[Cell]) -> None:
    """So that a state dict converts by renaming."""
    children = dict(cell(3, 4).named_children())
    assert list(children) == ["from_input", "from_state"]
    assert all(type(child) is nn.Linear for child in children.values())
