"""The scan ``h' = a * h + b`` for GPUs against steps in float64: on a GPU, or by Triton's interpreter."""

import os

import pytest
import torch
from torch import Tensor

from seqlab import Recurrent
from seqlab_cells.gpu import limits, linear
from seqlab_cells.mingru import MinGRU, MinGRUParallel
from seqlab_cells.parallel import affine_scan

INTERPRETED = limits.INTERPRETED and os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="neither a GPU nor the interpreter"),
]


def by_steps(a: Tensor, b: Tensor, start: Tensor, *, backward: bool) -> Tensor:
    states, h = [], start
    for t in reversed(range(len(a))) if backward else range(len(a)):
        h = a[t] * h + b[t]
        states.append(h)
    return torch.stack(states[::-1] if backward else states)


def compare(
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
def test_against_steps(time: int, columns: int, backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that are not full in either direction, and a single step."""
    monkeypatch.setattr(linear, "SHORTEST", 10**9)
    if INTERPRETED:
        monkeypatch.setattr(linear, "STEPS", 8)
    compare(time, columns, backward=backward)


@pytest.mark.parametrize("backward", [False, True])
def test_chunks(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of few columns: time is cut, and the pieces fit together; the last one is a short one."""
    for name, value in {"STEPS": 4, "SHORTEST": 4, "COLUMNS": 16}.items():
        monkeypatch.setattr(linear, name, value)
    assert linear._grid(18, 2)[1] == 3
    compare(18, 2, backward=backward)


def test_float16() -> None:
    """The state is float32 all along."""
    compare(9, 3, backward=False, bound=2e-3, dtype=torch.float16)


@pytest.mark.skipif(INTERPRETED, reason="sizes for a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("time", "columns"), [(10_000, 64), (1000, 40_000)])
def test_sizes_of_the_field(time: int, columns: int, dtype: torch.dtype) -> None:
    """Long with few columns, and wide."""
    compare(time, columns, backward=False, dtype=dtype, bound=1e-4 if dtype == torch.float32 else 5e-2)


def test_a_second_derivative_is_torchs() -> None:
    """What the kernels have no derivative of falls back."""
    torch.manual_seed(0)
    a, b, start = (torch.rand(3, 2, device=DEVICE, requires_grad=True) for _ in range(3))
    h = affine_scan(a, b, start[0], backward=False, by_triton=True)
    (first,) = torch.autograd.grad((h**2).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    plain = affine_scan(a, b, start[0], backward=False)
    (first_plain,) = torch.autograd.grad((plain**2).sum(), a, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(first_plain.sum(), a)[0])


def test_a_ragged_network_in_both_directions() -> None:
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
