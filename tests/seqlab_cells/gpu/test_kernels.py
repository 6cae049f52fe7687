"""The Triton kernels against the loop in float64: on a GPU, or interpreted (``test_without_a_gpu.py``)."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from seqlab import Recurrent
from seqlab_cells.lstm import LSTM, LSTMFused
from seqlab_cells.mingru import MinGRU, MinGRUParallel
from seqlab_cells.parallel import affine_scan

from .layers import BOUND, CELLS, DEVICE, INTERPRETED, agree, every_cell, on_a_device, results

pytestmark = on_a_device


def against_the_loop(
    name: str,
    *,
    time: int,
    batch: int,
    hidden: int,
    lengths: list[int] | None = None,
    bidirectional: bool = False,
    dtype: torch.dtype = torch.float32,
    save: Any = "gates",
    bound: float | None = None,
) -> None:
    """Everything agrees within rounding, relative to the largest number of its kind."""
    cell, kernel, options = CELLS[name]
    torch.manual_seed(0)
    network = Recurrent(cell, 3, bidirectional=bidirectional, hidden_size=hidden, kernel="loop", **options)
    x = torch.randn(time, batch, 3)
    start = tuple(0.5 * torch.randn(1 + bidirectional, batch, hidden) for _ in network.cells[0].state_names)
    for parameter in network.parameters():  # the same numbers in both precisions
        parameter.data = parameter.data.to(dtype).float()
    x, start = x.to(dtype).float(), tuple(each.to(dtype).float() for each in start)
    if lengths is not None:
        for row, length in enumerate(lengths):
            x[length:, row] = torch.nan
    expected = results(
        copy.deepcopy(network).double(),
        x.double(),
        None if lengths is None else torch.tensor(lengths),
        tuple(each.double() for each in start),
    )
    network.kernel = kernel(save=save)
    found = results(
        network.to(DEVICE, dtype),
        x.to(DEVICE, dtype),
        None if lengths is None else torch.tensor(lengths, device=DEVICE),
        tuple(each.to(DEVICE, dtype) for each in start),
    )
    assert network.choice is not None
    assert network.choice.kernel.name == "fused"
    agree(found, expected, bound or BOUND[dtype])


@every_cell
def test_ragged_in_both_directions(name: str) -> None:
    """Two tiles of rows, one of them not full; a row without a step; a hidden size that is no power of two."""
    lengths = [3, 1, 4, 0, 2, 4, 1, 3, 2, 1, 1, 4, 2, 3, 1, 2, 4]
    against_the_loop(name, time=4, batch=17, hidden=5, lengths=lengths, bidirectional=True)


@every_cell
def test_full_rows_in_both_directions(name: str) -> None:
    """The same without lengths, and more units than the smallest tile has."""
    against_the_loop(name, time=3, batch=3, hidden=18, bidirectional=True)


@every_cell
@pytest.mark.parametrize("lengths", [None, [1, 0, 1]])
def test_one_step(name: str, lengths: list[int] | None) -> None:
    """The first step is the last one too."""
    against_the_loop(name, time=1, batch=3, hidden=4, lengths=lengths)


@pytest.mark.parametrize(
    ("name", "save"), [("lstm", "recompute"), ("gru", "recompute"), ("rnn", "recompute"), ("lstm", "checkpoint")]
)
def test_saving_less_changes_nothing(name: str, save: str) -> None:
    """What is recomputed is what was there."""
    against_the_loop(name, time=5, batch=3, hidden=4, lengths=[5, 2, 0], bidirectional=True, save=save)


@pytest.mark.parametrize(
    ("name", "save"), [("lstm", "gates"), ("gru", "recompute"), ("rnn", "gates"), ("lstm", "recompute")]
)
def test_float16(name: str, save: str) -> None:
    """With states and sums in float32."""
    against_the_loop(name, time=6, batch=2, hidden=4, lengths=[6, 3], dtype=torch.float16, save=save)


@every_cell
def test_tf32(name: str) -> None:
    """Asked for as torch has it; W then stays in registers. The interpreter multiplies in float32 all the same."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        lengths = [3, 0, 1]
        bound = BOUND[torch.float32] if INTERPRETED else 5e-3
        against_the_loop(name, time=3, batch=3, hidden=5, lengths=lengths, bidirectional=True, bound=bound)
    finally:
        torch.set_float32_matmul_precision(before)


@every_cell
@pytest.mark.skipif(INTERPRETED, reason="the interpreter multiplies bfloat16 by bit pattern (triton issue 11584)")
def test_bfloat16(name: str) -> None:
    """The same."""
    against_the_loop(name, time=6, batch=2, hidden=4, lengths=[6, 3], bidirectional=True, dtype=torch.bfloat16)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter would take minutes, and adds no case of its own")
@every_cell
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hidden", [50, 64, 100, 128])
def test_sizes_of_the_field(name: str, dtype: torch.dtype, hidden: int) -> None:
    """As large as fits, over many steps and tiles."""
    cell, kernel, options = CELLS[name]
    probe = kernel().refuses(
        [cell(3, hidden, **options).to(DEVICE, dtype)], torch.zeros(1, 1, 3, device=DEVICE, dtype=dtype), None
    )
    if probe:
        pytest.skip(probe)
    lengths = [(37 * row) % 71 for row in range(150)]
    against_the_loop(name, time=70, batch=150, hidden=hidden, lengths=lengths, bidirectional=True, dtype=dtype)


@every_cell
def test_nothing_to_do(name: str) -> None:
    """No row, no step, or none but rows of length 0: the state is the initial one, and its gradient comes through."""
    against_the_loop(name, time=2, batch=2, hidden=4, lengths=[0, 0])
    cell, kernel, options = CELLS[name]
    network = Recurrent(cell, 3, hidden_size=4, kernel=kernel(), **options).to(DEVICE)
    for shape in ((0, 2, 3), (2, 0, 3)):
        output, state = network(torch.zeros(shape, device=DEVICE, requires_grad=True))
        assert output.shape == (*shape[:2], 4)
        assert state is not None
        assert not state[0].any()
        (output.sum() + state[0].sum()).backward()


def test_twice_is_the_same_bit_by_bit() -> None:
    """No sum's order is left to chance."""
    torch.manual_seed(0)
    network = Recurrent(LSTM, 3, bidirectional=True, hidden_size=4, kernel=LSTMFused()).to(DEVICE)
    x, start = torch.randn(4, 5, 3, device=DEVICE), tuple(torch.randn(2, 5, 4, device=DEVICE) for _ in "hc")
    lengths = torch.tensor([4, 1, 3, 0, 2], device=DEVICE)
    first, second = (results(network, x, lengths, start) for _ in range(2))
    for key, part in first.items():
        assert torch.equal(part, second[key]), key


def test_autocast() -> None:
    """Autocast's type of number is computed in; parameters and states keep theirs."""
    dtype = torch.float16 if INTERPRETED else torch.bfloat16
    torch.manual_seed(0)
    network = Recurrent(LSTM, 3, hidden_size=4, kernel=LSTMFused()).to(DEVICE)
    x, start = torch.randn(3, 2, 3, device=DEVICE), tuple(torch.randn(1, 2, 4, device=DEVICE) for _ in "hc")
    expected = results(_looped(network), x.double(), None, tuple(each.double() for each in start))
    with torch.autocast(DEVICE, dtype):
        output, state = network(x, start)
        found = results(network, x, None, start)
    assert output.dtype == dtype
    assert state is not None
    assert state[1].dtype == torch.float32
    for key, part in expected.items():
        assert float((found[key] - part).abs().max()) <= 5e-2 * max(1.0, float(part.abs().max())), key


def _looped(network: Recurrent) -> Recurrent:
    copied = copy.deepcopy(network).double()
    copied.kernel = "loop"
    return copied


# ------------------------------------------------------------------------------------------------- h' = a * h + b


def by_steps(a: Tensor, b: Tensor, start: Tensor, *, backward: bool) -> Tensor:
    states, h = [], start
    for t in reversed(range(len(a))) if backward else range(len(a)):
        h = a[t] * h + b[t]
        states.append(h)
    return torch.stack(states[::-1] if backward else states)


def compare_linear(
    time: int, columns: int, *, backward: bool, bound: float = 2e-5, dtype: torch.dtype = torch.float32
) -> None:
    """States and all gradients; some shares are exactly 0 and 1."""
    torch.manual_seed(time)
    a, b = torch.rand(time, columns, dtype=torch.float64), torch.randn(time, columns, dtype=torch.float64)
    a[torch.rand(time, columns) < 0.1] = 0
    a[torch.rand(time, columns) < 0.3] = 1
    inputs = [each.to(dtype).double().requires_grad_() for each in (a, b, torch.randn(columns, dtype=torch.float64))]
    h = by_steps(*inputs, backward=backward)
    weights = torch.randn(h.shape, dtype=torch.float64).to(dtype)
    expected = [h, *torch.autograd.grad((h * weights).sum(), inputs)]
    given = [each.detach().to(DEVICE, dtype).requires_grad_() for each in inputs]
    h = affine_scan(*given, backward=backward, by_triton=True)
    found = [h, *torch.autograd.grad((h * weights.to(DEVICE)).sum(), given)]
    for mine, theirs in zip(found, expected, strict=True):
        assert float((mine.detach().double().cpu() - theirs.detach()).abs().max()) <= bound * max(
            1.0, float(theirs.detach().abs().max())
        )


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("time", "columns"), [(1, 3), (33, 34)])
def test_linear_against_steps(time: int, columns: int, backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that are not full in either direction, and a single step."""
    from seqlab_cells.gpu import linear

    monkeypatch.setattr(linear, "SHORTEST", 10**9)
    if INTERPRETED:
        monkeypatch.setattr(linear, "STEPS", 8)
    compare_linear(time, columns, backward=backward)


@pytest.mark.parametrize("backward", [False, True])
def test_linear_in_chunks(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of few columns: time is cut, and the pieces fit together; the last one is a short one."""
    from seqlab_cells.gpu import linear

    for name, value in {"STEPS": 4, "SHORTEST": 4, "COLUMNS": 16}.items():
        monkeypatch.setattr(linear, name, value)
    assert linear._grid(18, 2)[1] == 3
    compare_linear(18, 2, backward=backward)


def test_linear_in_float16() -> None:
    """The state is float32 all along."""
    compare_linear(9, 3, backward=False, bound=2e-3, dtype=torch.float16)


@pytest.mark.skipif(INTERPRETED, reason="sizes for a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("time", "columns"), [(10_000, 64), (1000, 40_000)])
def test_linear_at_sizes_of_the_field(time: int, columns: int, dtype: torch.dtype) -> None:
    """Long with few columns, and wide."""
    compare_linear(time, columns, backward=False, dtype=dtype, bound=1e-4 if dtype == torch.float32 else 5e-2)


def test_second_derivative_of_the_linear_scan_is_torchs() -> None:
    """What the kernels have no derivative of falls back."""
    torch.manual_seed(0)
    a, b, start = (torch.rand(3, 2, device=DEVICE, requires_grad=True) for _ in range(3))
    h = affine_scan(a, b, start[0], backward=False, by_triton=True)
    (first,) = torch.autograd.grad((h**2).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    plain = affine_scan(a, b, start[0], backward=False)
    (first_plain,) = torch.autograd.grad((plain**2).sum(), a, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(first_plain.sum(), a)[0])


def test_linear_ragged_in_both_directions() -> None:
    """The whole kernel, over padding full of NaN, against the loop."""
    torch.manual_seed(0)
    network = Recurrent(MinGRU, 3, bidirectional=True, hidden_size=5, kernel="loop")
    x, lengths = torch.randn(6, 4, 3), torch.tensor([6, 2, 0, 5])
    for row, length in enumerate(lengths.tolist()):
        x[length:, row] = torch.nan
    expected, state = network.double()(x.double(), lengths=lengths)
    network.float().to(DEVICE).kernel = MinGRUParallel(by="triton")
    found, state_found = network(x.to(DEVICE), lengths=lengths.to(DEVICE))
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state_found[0].double().cpu(), state[0], rtol=1e-5, atol=1e-6)
