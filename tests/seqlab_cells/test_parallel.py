"""The scan in parallel over time is the loop: outputs, final states and every gradient."""

from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from seqlab import Cell, Recurrent
from seqlab_cells import parallel
from seqlab_cells.mingru import MinGRU
from seqlab_cells.minlstm import MinLSTM
from seqlab_cells.parallel import affine_scan

from .common import Result, run

forward_mode = pytest.mark.filterwarnings(  # torch's own use of it
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)
both_cells = pytest.mark.parametrize("cell", [MinGRU, MinLSTM])


def network(cell: type[Cell], kernel: str, dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 3, **{"hidden_size": 4, **options}, kernel=kernel).to(dtype)


def both(cell: type[Cell], x: Tensor, start: Tensor, lengths: list[int] | None, **options: Any) -> list[Result]:
    """Parallel, and the loop."""
    return [run(network(cell, kernel, x.dtype, **options), x, (start,), lengths) for kernel in ("parallel", "loop")]


# How far a sequence is folded: to the end, not so far, or not at all, as on a CPU that one step keeps busy.
ways = st.sampled_from([{"SHORT": 1}, {"SHORT": 16}, {"WIDE": 0}])


@both_cells
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4), extra=st.integers(0, 2), way=ways)
def test_equals_the_loop_on_ragged_rows(
    cell: type[Cell], bidirectional: bool, lengths: list[int], extra: int, way: dict[str, int]
) -> None:
    """With NaN in the padding, and a state to begin with."""
    time = max(lengths) + (extra or not any(lengths))
    x = torch.randn(time, len(lengths), 3, dtype=torch.float64)
    x = x.masked_fill(torch.arange(time).view(-1, 1, 1) >= torch.tensor(lengths).view(1, -1, 1), float("nan"))
    start = torch.randn(1 + bidirectional, len(lengths), 4, dtype=torch.float64, requires_grad=True)
    with patch.multiple(parallel, **way):
        ours, loop = both(cell, x, start, lengths, bidirectional=bidirectional)
    assert_close(ours, loop, rtol=1e-12, atol=1e-12)
    assert torch.isfinite(ours.to_input).all()
    for row, length in enumerate(lengths):
        assert not ours.output[length:, row].any()
        if not length:
            assert torch.equal(ours.state[0][:, row], start[:, row])


@both_cells
def test_equals_the_loop_on_full_rows_in_two_layers(cell: type[Cell]) -> None:
    x, start = torch.randn(37, 3, 3, dtype=torch.float64), torch.randn(4, 3, 4).double().requires_grad_()
    for lengths in (None, [37, 37, 37]):
        assert_close(*both(cell, x, start, lengths, depth=2, bidirectional=True), rtol=1e-12, atol=1e-12)


@both_cells
@pytest.mark.parametrize("way", [{"SHORT": 1}, {"SHORT": 16}, {"WIDE": 0}], ids=str)
def test_float32_over_1000_steps_is_near_the_loop_in_float64(cell: type[Cell], way: dict[str, int]) -> None:
    x, start = torch.randn(1000, 2, 3), torch.randn(2, 2, 4, requires_grad=True)
    options: dict[str, Any] = {"bidirectional": True}
    with patch.multiple(parallel, **way):
        ours = run(network(cell, "parallel", torch.float32, **options), x, (start,), [1000, 600])
    precise = network(cell, "loop", **options)
    precise.load_state_dict(network(cell, "loop", torch.float32, **options).state_dict())
    expected = run(precise, x.double(), (start.detach().double().requires_grad_(),), [1000, 600])
    assert_close(ours, expected, rtol=1e-4, atol=1e-4, check_dtype=False)
    assert_close(ours.output, expected.output, rtol=0, atol=2e-6, check_dtype=False)


both_ways = pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])


def one_by_one(a: Tensor, b: Tensor, start: Tensor, backward: bool) -> Tensor:
    states, h = {}, start
    for t in reversed(range(len(a))) if backward else range(len(a)):
        states[t] = h = a[t] * h + b[t]
    return torch.stack([states[t] for t in range(len(a))])


@both_ways
@pytest.mark.parametrize("short", [1, 16])
def test_shares_of_exactly_0_and_1(backward: bool, short: int) -> None:
    """All 2^6 patterns of them over six steps: values and gradients, to the last bit where there is no rounding."""
    a = torch.tensor([[float(n >> t & 1) for n in range(64)] for t in range(6)], requires_grad=True)
    b = torch.arange(1.0, 1 + 6 * 64).view(6, 64).requires_grad_()
    start = torch.full((64,), -5.0, requires_grad=True)
    with patch.object(parallel, "SHORT", short):
        ours = affine_scan(a, b, start, backward=backward)
        expected = one_by_one(a, b, start, backward)
        assert torch.equal(ours, expected)
        weights = torch.arange(1.0, 7).view(6, 1)
        gradients = [torch.autograd.grad((y * weights).sum(), [a, b, start]) for y in (ours, expected)]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@both_ways
@forward_mode
@pytest.mark.parametrize(("time", "short"), [(1, 16), (2, 1), (7, 1), (8, 1), (5, 16)])
def test_all_derivatives_agree_with_finite_differences(backward: bool, time: int, short: int) -> None:
    """First and second, forward mode, and both modes batched by vmap."""
    torch.manual_seed(0)
    a, b, start = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((time, 2),) * 2 + ((2,),))

    def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        return affine_scan(a, b, start, backward=backward)

    with patch.object(parallel, "SHORT", short):
        assert torch.autograd.gradcheck(scan, (a, b, start), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(scan, (a, b, start))
        expected = torch.autograd.functional.jacobian(scan, (a, b, start))
        for jacobian in (torch.func.jacrev, torch.func.jacfwd):
            assert_close(jacobian(scan, argnums=(0, 1, 2))(a, b, start), expected, rtol=1e-12, atol=1e-12)


@both_ways
def test_vmap_over_any_axis(backward: bool) -> None:
    a, b, start = torch.randn(7, 2, 3), torch.randn(7, 3, 2), torch.randn(2)
    found = torch.func.vmap(partial(affine_scan, backward=backward), in_dims=(2, 1, None))(a, b, start)
    expected = [one_by_one(a[..., row], b[:, row], start, backward) for row in range(3)]
    assert_close(found, torch.stack(expected))


def test_operations_grow_with_the_logarithm_of_the_length() -> None:
    class Count(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.operations += func in (torch.ops.aten.addcmul.default, torch.ops.aten.addcmul.out)
            return func(*args, **(kwargs or {}))

    counts = []
    for time in (2**6, 2**10, 2**14):
        with Count() as count:
            affine_scan(torch.rand(time, 1), torch.rand(time, 1), torch.rand(1), backward=False)
        counts.append(count.operations)
    assert counts[1] - counts[0] == counts[2] - counts[1] == 3 * 4  # three in each of four more foldings
