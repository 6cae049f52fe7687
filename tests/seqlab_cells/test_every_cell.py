"""What holds for each of the cells that torch does not have, whatever its equations."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seqlab import Cell, Recurrent
from seqlab.plugins.registry import find
from seqlab_cells.coupled_lstm import CoupledLSTM
from seqlab_cells.indrnn import IndRNN
from seqlab_cells.layer_norm_lstm import LayerNormLSTM
from seqlab_cells.mingru import MinGRU
from seqlab_cells.minlstm import MinLSTM
from seqlab_cells.peephole_lstm import PeepholeLSTM

CELLS: dict[str, type[Cell]] = {
    "peephole_lstm": PeepholeLSTM,
    "coupled_lstm": CoupledLSTM,
    "layer_norm_lstm": LayerNormLSTM,
    "indrnn": IndRNN,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
}

every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def network(cell: type[Cell], dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 3, **{"hidden_size": 4, **options}).to(dtype)


def batch(time: int = 5, rows: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(time, rows, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(("name", "cell"), CELLS.items(), ids=CELLS)
def test_is_registered(name: str, cell: type[Cell]) -> None:
    assert find("cell", name).load() is cell


@every_cell
def test_hidden_size_is_128_unless_said_and_sizes_are_positive(cell: type[Cell]) -> None:
    assert cell(3).hidden_size == cell(3).output_size == 128  # type: ignore[call-arg]  # a default of these cells
    with pytest.raises(ValueError, match="input_size must be >= 1, got 0"):
        cell(0, 4)
    with pytest.raises(ValueError, match="hidden_size must be >= 1, got -4"):
        cell(3, -4)


@every_cell
def test_every_parameter_gets_a_gradient(cell: type[Cell]) -> None:
    """From outputs of ragged rows, both ways, two layers."""
    recurrent = network(cell, depth=2, bidirectional=True)
    recurrent(batch(), lengths=torch.tensor([5, 2, 4]))[0].square().sum().backward()
    for name, parameter in recurrent.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@every_cell
def test_gradients_agree_with_finite_differences(cell: type[Cell]) -> None:
    recurrent = network(cell, hidden_size=2, depth=2, bidirectional=True, kernel="loop")
    names = dict(recurrent.named_parameters())
    x = batch(3, 2).requires_grad_()

    def outputs(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(recurrent, given, (x,), {"lengths": torch.tensor([3, 2])})[0]

    assert torch.autograd.gradcheck(outputs, (x, *names.values()), fast_mode=True)


@every_cell
@pytest.mark.parametrize("time", [1, 5])
@pytest.mark.parametrize("hidden_size", [1, 4])
def test_a_row_alone_equals_the_row_in_the_batch(cell: type[Cell], time: int, hidden_size: int) -> None:
    if cell is LayerNormLSTM and hidden_size == 1:
        return  # refused, as its own test says
    recurrent, x = network(cell, hidden_size=hidden_size, bidirectional=True), batch(time)
    lengths = [time, 1, (time + 1) // 2]
    poisoned = x.masked_fill(torch.arange(time).view(-1, 1, 1) >= torch.tensor(lengths).view(1, -1, 1), float("nan"))
    y, state = recurrent(poisoned, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone, end = recurrent(x[:length, row : row + 1])
        assert_close(y[:length, row : row + 1], alone, rtol=0, atol=1e-14)
        assert not y[length:, row].any()
        assert_close([leaf[:, row : row + 1] for leaf in state], list(end), rtol=0, atol=1e-14)


@every_cell
def test_a_run_cut_anywhere_equals_the_uncut_run(cell: type[Cell]) -> None:
    recurrent, x = network(cell, depth=2), batch()
    whole, end = recurrent(x)
    allowed = 8 * torch.finfo(x.dtype).eps * max(1.0, sensitivity(recurrent, x))
    for cut in range(1, 5):
        first, state = recurrent(x[:cut])
        second, state = recurrent(x[cut:], state)
        assert_close((torch.cat([first, second]), *state), (whole, *end), rtol=0, atol=allowed)


def sensitivity(recurrent: Recurrent, x: torch.Tensor, change: float = 1e-7) -> float:
    """Return the largest move of outputs and states, of 8 draws, per relative change of the weights.

    Products over fewer steps are rounded differently; each is the exact product of weights that differ by a few eps
    (Higham 2002, section 3.5). Two layers of layer normalisation over 4 units multiply that by 20 to 100, the other
    cells by at most 4.
    """
    generator, moves = torch.Generator().manual_seed(2), [0.0]
    with torch.no_grad():
        y, end = recurrent(x)
        for _ in range(8):
            moved = copy.deepcopy(recurrent)
            for weight in moved.parameters():
                sign = torch.randint(0, 2, weight.shape, generator=generator, dtype=weight.dtype) * 2 - 1
                weight.mul_(1 + change * sign)
            other, other_end = moved(x)
            pairs = zip((y, *end), (other, *other_end), strict=True)
            moves += [float((one - another).abs().max()) for one, another in pairs]
    return max(moves) / change


@every_cell
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_computes_in_the_dtype_of_its_input(cell: type[Cell], dtype: torch.dtype) -> None:
    recurrent = network(cell, dtype)
    y, state = recurrent(batch(dtype=dtype))
    assert {y.dtype, *(leaf.dtype for leaf in state)} == {dtype}
    precise, _ = network(cell)(batch(dtype=dtype).double())  # drawn in float32 from the same seed
    assert_close(y.double(), precise, rtol=0, atol=40 * torch.finfo(dtype).eps + 1e-6)


@every_cell
def test_runs_on_the_device_of_its_input(cell: type[Cell]) -> None:
    """Meta stands for any device but the CPU: a tensor made elsewhere would not go with it."""
    made, x = cell(3, 4).to("meta"), batch(dtype=torch.float32).to("meta")
    y, state = made.step(made.project(x)[0], made.initial_state(x[0]))
    assert {y.device.type, *(leaf.device.type for leaf in state)} == {"meta"}


@every_cell
def test_autocast_keeps_the_state_in_float32(cell: type[Cell]) -> None:
    recurrent, x = network(cell, torch.float32, depth=2, bidirectional=True), batch(dtype=torch.float32)
    expected, _ = recurrent(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, state = recurrent(x, lengths=torch.tensor([5, 5, 5]))
    assert {leaf.dtype for leaf in state} == {torch.float32}
    assert (output.float() - expected).abs().mean() < 0.02  # single numbers may move more under a layer norm


@every_cell
def test_copies_and_pickles(cell: type[Cell]) -> None:
    recurrent, x = network(cell, bidirectional=True), batch()
    expected, _ = recurrent(x)
    for twin in (copy.deepcopy(recurrent), pickle.loads(pickle.dumps(recurrent))):
        assert torch.equal(twin(x)[0], expected)
        with torch.no_grad():
            next(twin.parameters()).add_(1)
    assert torch.equal(recurrent(x)[0], expected)
