"""Laws of every cell, and how cells are initialised."""

import copy
import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.testing import assert_close

from seqlab import Cell, Recurrent, UserError, compose
from seqlab.config.build import build_task, cell_factory
from seqlab_cells.coupled_lstm import CoupledLSTM
from seqlab_cells.gated.slstm import SLSTM
from seqlab_cells.gru import GRU
from seqlab_cells.indrnn import IndRNN
from seqlab_cells.layer_norm_lstm import LayerNormLSTM
from seqlab_cells.lstm import LSTM
from seqlab_cells.mingru import MinGRU
from seqlab_cells.minlstm import MinLSTM
from seqlab_cells.peephole_lstm import PeepholeLSTM
from seqlab_cells.rnn import RNN

from .common import every_cell

classic = pytest.mark.parametrize("cell", [RNN, LSTM, GRU])


def network(cell: type[Cell], dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 3, **{"hidden_size": 4, **options}).to(dtype)


def batch(time: int = 5, rows: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(time, rows, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


@every_cell
def test_gradients_agree_with_finite_differences(cell: type[Cell]) -> None:
    """Of inputs and parameters, by the loop, through two layers, both directions and ragged rows."""
    recurrent = network(cell, hidden_size=2, depth=2, bidirectional=True, kernel="loop")
    names = dict(recurrent.named_parameters())

    def outputs(x: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(recurrent, given, (x,), {"lengths": torch.tensor([3, 2])})[0]

    assert torch.autograd.gradcheck(outputs, (batch(3, 2).requires_grad_(), *names.values()), fast_mode=True)


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
        assert_close([each[:, row : row + 1] for each in state], list(end), rtol=0, atol=1e-14)


@every_cell
def test_a_run_cut_anywhere_equals_the_uncut_run(cell: type[Cell]) -> None:
    recurrent, x = network(cell, depth=2), batch()
    whole, end = recurrent(x)
    allowed = 8 * torch.finfo(x.dtype).eps * max(1.0, sensitivity(recurrent, x))
    for cut in range(1, 5):
        first, state = recurrent(x[:cut])
        second, state = recurrent(x[cut:], state)
        assert_close((torch.cat([first, second]), *state), (whole, *end), rtol=0, atol=allowed)


def sensitivity(recurrent: Recurrent, x: Tensor, change: float = 1e-7) -> float:
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
    assert {y.dtype, *(each.dtype for each in state)} == {dtype}
    precise, _ = network(cell)(batch(dtype=dtype).double())  # drawn in float32 from the same seed
    assert_close(y.double(), precise, rtol=0, atol=40 * torch.finfo(dtype).eps + 1e-6)


@every_cell
def test_runs_on_the_device_of_its_input(cell: type[Cell]) -> None:
    """Meta stands for any device but the CPU: a tensor created elsewhere would not go with it."""
    made, x = cell(3, 4).to("meta"), batch(dtype=torch.float32).to("meta")
    y, state = made.step(made.project(x)[0], made.initial_state(x[0]))
    assert {y.device.type, *(each.device.type for each in state)} == {"meta"}


@classic
def test_autocast_keeps_the_state_in_float32(cell: type[Cell]) -> None:
    recurrent, x = network(cell, torch.float32, depth=2, bidirectional=True), batch(dtype=torch.float32)
    expected, _ = recurrent(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, state = recurrent(x, lengths=torch.tensor([5, 5, 5]))
    assert {each.dtype for each in state} == {torch.float32}
    assert_close(output.float(), expected, rtol=0, atol=0.03)


@every_cell
def test_sizes(cell: type[Cell]) -> None:
    assert cell(3).hidden_size == cell(3).output_size == 128  # type: ignore[call-arg]  # a default of these cells
    for sizes, name in (((0, 4), "input_size"), ((3, -4), "hidden_size")):
        with pytest.raises(ValueError, match=name):
            cell(*sizes)


@pytest.mark.parametrize(
    ("cell", "option", "value"),
    [(RNN, "nonlinearity", "gelu"), (RNN, "initialisation", "zeros"), (IndRNN, "nonlinearity", "gelu")],
)
def test_an_unknown_option_is_named(cell: Any, option: str, value: str) -> None:
    unchecked = cell.__init__.__wrapped__  # below the type checks of the tests
    with pytest.raises(ValueError, match=f"{option} must be .*'{value}'"):
        unchecked(cell.__new__(cell), 3, 4, **{option: value})


def test_layer_normalisation_needs_two_units() -> None:
    with pytest.raises(ValueError, match="hidden_size"):
        LayerNormLSTM(3, 1)


def test_shapes_are_checked_while_tests_run() -> None:
    """The import hook is in place: what a step is annotated with is what it gets."""
    cell = GRU(3, 4)
    with pytest.raises(TypeCheckError):
        cell.step(torch.zeros(2, 2, 12), cell.initial_state(torch.zeros(2, 3)))


# ------------------------------------------------------------------------------------------------- initialisation


@classic
def test_parameters_are_initialised_as_torchs_are(cell: type[Cell]) -> None:
    """Uniform in +-1/sqrt(hidden), biases too: all within the bound, and spread over it as a uniform draw is."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"forget_bias": 0.0} if cell is LSTM else {}
    for parameter in cell(40, hidden_size=100, **options).parameters():
        bound = 0.1
        assert parameter.abs().max() <= bound
        assert parameter.abs().max() > 0.9 * bound
        assert abs(float(parameter.detach().std()) - bound / math.sqrt(3)) < 0.2 * bound


@classic
def test_the_two_maps_are_all_there_is(cell: type[Cell]) -> None:
    """So that a state dict converts by renaming."""
    children = dict(cell(3, 4).named_children())
    assert list(children) == ["from_input", "from_state"]
    assert all(type(child) is nn.Linear for child in children.values())


@pytest.mark.parametrize("steps", [10, 1000])
def test_the_forget_bias_of_slstm_is_how_long_it_keeps(steps: int) -> None:
    """With weights of zero an input of one share in its step has sigmoid(b)^n of it after n steps."""
    bias = math.log(steps)
    cell = SLSTM(1, hidden_size=2, forget_bias=bias).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter *= 0 if parameter.dim() > 1 else 1
        cell.from_input.bias[[0, 1, 4, 5, 6, 7]] = torch.tensor([-50.0, -50, 0, 0, 0, 0], dtype=torch.float64)
        cell.from_input.weight[0:2] = 50  # the input gate: 1 at the first input
        cell.from_input.weight[4:6] = 1  # the candidate
    state = cell.initial_state(torch.zeros(1, 1, dtype=torch.float64))
    for each in cell.project(torch.eye(1, steps + 1, dtype=torch.float64).T.unsqueeze(1)):
        _, state = cell.step(each, state)
    _, c, _, m = state
    share = 1 / (1 + 1 / steps)
    assert_close(c * torch.exp(m), torch.full_like(c, math.tanh(1) * share**steps))


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_recurrent_weights_of_an_indrnn_start_between_0_and_1(nonlinearity: str) -> None:
    torch.manual_seed(0)
    u = network(IndRNN, hidden_size=1000, nonlinearity=nonlinearity).cells[0].from_itself.detach()
    assert 0 <= u.min() < 0.01
    assert 0.99 < u.max() <= 1
    assert abs(float(u.mean()) - 0.5) < 0.04  # four standard errors


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


@pytest.mark.parametrize(
    ("cell", "bias", "gate"),
    [
        (LSTM, "from_input.bias", slice(4, 8)),
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


CHRONO: list[tuple[type[Cell], str, str, int, int, int | None]] = [
    # cell, option, biases, sign of the gate that keeps the state, its place, place of the input gate
    (LSTM, "forget_bias", "from_input.bias", 1, 1, 0),
    (PeepholeLSTM, "forget_bias", "from_input.bias", 1, 1, 0),
    (CoupledLSTM, "forget_bias", "from_input.bias", 1, 0, None),
    (LayerNormLSTM, "forget_bias", "norm_input.bias", 1, 1, 0),
    (GRU, "update_bias", "from_input.bias", 1, 1, None),
    (MinGRU, "update_bias", "from_input.bias", -1, 0, None),
    (MinLSTM, "forget_bias", "from_input.bias", 1, 0, 1),
]
chrono = pytest.mark.parametrize(("cell", "option", "bias", "sign", "gate", "opposite"), CHRONO)


@chrono
def test_chrono_biases_are_logarithms_of_uniform_numbers(
    cell: type[Cell], option: str, bias: str, sign: int, gate: int, opposite: int | None
) -> None:
    """u = exp(b) is uniform on [1, T - 1] (Kolmogorov-Smirnov), the input gate's bias is -b, all others are torch's."""
    states = []
    for value in ("chrono", "chrono", 0.0):
        torch.manual_seed(0)
        states.append(cell(3, 2000, **{option: value, "chrono_length": 50}).state_dict())
    drawn, again, plain = states
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    rows, before = drawn[bias].view(-1, 2000).double(), plain[bias].view(-1, 2000)
    u = (sign * rows[gate]).exp().sort().values
    assert u.min() >= 1 - 1e-5
    assert u.max() <= 49 + 1e-3
    empirical = torch.arange(1, 2001) / 2000
    assert ((u - 1) / 48 - empirical).abs().max() < 1.63 / 2000**0.5  # 1 % of true samples are further away
    if opposite is not None:
        assert torch.equal(rows[opposite], -rows[gate])
    others = [place for place in range(len(rows)) if place not in (gate, opposite)]
    assert all(torch.equal(rows[place].float(), before[place]) for place in others)


@chrono
def test_chrono_memories_last_from_2_to_the_given_number_of_steps(
    cell: type[Cell], option: str, bias: str, sign: int, gate: int, opposite: int | None
) -> None:
    """Without weights a state decays by 1 - 1/T a step, for a T of each unit between 2 and ``chrono_length``."""
    torch.manual_seed(0)
    made = cell(3, 200, **{option: "chrono", "chrono_length": 50}).double()
    for name, parameter in made.named_parameters():
        if parameter.dim() == 2 or name == "peepholes":
            torch.nn.init.zeros_(parameter)
    start = tuple(torch.zeros(1, 200, dtype=torch.float64, requires_grad=True) for _ in made.state_names)
    _, end = made.step(made.project(torch.zeros(1, 1, 3, dtype=torch.float64))[0], start)
    (kept,) = torch.autograd.grad(end[-1].sum(), start[-1])
    scales = 1 / (1 - kept)
    assert scales.min() > 2 - 1e-6
    assert scales.max() < 50 + 1e-4
    assert scales.median() == pytest.approx(26, abs=5)


def test_chrono_needs_a_length() -> None:
    with pytest.raises(ValueError, match="chrono_length must be set with update_bias=chrono"):
        GRU(3, 4, update_bias="chrono")
    with pytest.raises(ValueError, match="chrono_length must be >= 2, got 1"):
        LSTM(3, 4, forget_bias="chrono", chrono_length=1)
    cell = LSTM(3, 4)
    with pytest.raises(ValueError, match="forget_bias must be a number or chrono, got 'slow'"):
        cell.initialise_gate([cell.from_input.bias], "slow", 9, 1)


def test_the_length_of_chrono_is_the_tasks_unless_it_is_given() -> None:
    def maker(*overrides: str) -> Any:
        config = compose(["cell=gru", "cell.update_bias=chrono", *overrides])
        return cell_factory(config.cell, build_task(config.task))

    for overrides, length in (([], 30), (["cell.chrono_length=9"], 9)):
        torch.manual_seed(0)
        made = maker("task=first", "task.sequence_length=30", *overrides)(3)
        torch.manual_seed(0)
        assert_close(made.state_dict(), GRU(3, update_bias="chrono", chrono_length=length).state_dict())
    with pytest.raises(UserError, match=r"^cell.chrono_length must be set with .*where the task has no length$"):
        maker("task=names", "task.sequence_length=null")(3)


@pytest.mark.parametrize("cell", [RNN, GRU])
def test_recurrent_weights_may_be_orthogonal_or_the_identity(cell: type[Cell]) -> None:
    torch.manual_seed(0)
    blocks = cell(3, 20, initialisation="orthogonal").state_dict()["from_state.weight"].double().split(20)
    assert all((block @ block.T - torch.eye(20)).abs().max() < 1e-5 for block in blocks)
    assert all((block - torch.eye(20)).abs().max() > 0.1 for block in blocks)
    identity = cell(3, 20, initialisation="identity").state_dict()["from_state.weight"]
    assert torch.equal(identity, torch.eye(20).repeat(len(blocks), 1))


@pytest.mark.parametrize("cell", [LSTM, PeepholeLSTM, CoupledLSTM, LayerNormLSTM])
def test_a_high_forget_bias_keeps_the_cell_state(cell: type[Cell]) -> None:
    """c stays whole, and is gone in one step where the bias is low."""
    for forget_bias, kept in ((1e3, 1.0), (-1e3, 0.0)):
        recurrent = network(cell, forget_bias=forget_bias)
        if cell is PeepholeLSTM:  # whose input gate would see c as well
            torch.nn.init.zeros_(recurrent.cells[0].peepholes)
        c = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
        _, (_, end) = recurrent(torch.randn(1, 2, 3, dtype=torch.float64), (torch.zeros_like(c), c))
        (slope,) = torch.autograd.grad(end.sum(), c)
        assert_close(slope, torch.full_like(slope, kept), rtol=0, atol=1e-12)
