"""The fused scan as an operator, against torch.nn, the loop, and itself."""

import copy
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

from seqlab.testing import KernelSuite, run_suite
from seqlab.testing.comparison import compare_with_loop
from seqlab.testing.layer import Call, random_normal
from seqlab_cells.fused.native import library
from seqlab_cells.fused.ops import fused_scan
from seqlab_cells.weights import EPILOGUES

from .layers import CELLS, EPILOGUE, KERNELS, TORCH, draw, every_cell, every_epilogue, results


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@every_epilogue
@pytest.mark.parametrize(("hidden", "lengths"), [(3, None), (9, [4, 0, 2])])
def test_gradcheck(epilogue: str, hidden: int, lengths: list[int] | None) -> None:
    """Finite differences through the operator agree with its derivative, both directions, in float64."""
    given = draw(epilogue, 4, 3, 2, hidden, directions=2)
    if epilogue == "RnnRelu":  # away from the kink, where no derivative exists
        given["weights"] = [weight + 0.3 * (weight.dim() == 1) for weight in given["weights"]]
    valid = None if lengths is None else torch.tensor(lengths)
    count = len(given["states"])
    sources = [given["x"], *given["states"], *given["weights"]]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        y, h, c, _ = fused_scan(x, valid, rest[:count], rest[count:], epilogue, "gates")
        return (y, h, c) if EPILOGUES[epilogue].states == 2 else (y, h)

    assert torch.autograd.gradcheck(run, [each.requires_grad_() for each in sources], fast_mode=True)


@pytest.mark.parametrize("epilogue", list(TORCH))
@pytest.mark.parametrize("shape", [(300, 4, 16, 64), (50, 5, 7, 33)])
def test_float32_loses_no_more_than_torch(epilogue: str, shape: tuple[int, int, int, int]) -> None:
    """The error of outputs and every gradient against float64 is at most twice that of torch.nn in float32."""
    time, batch, size, hidden = shape
    torch.manual_seed(0)
    truth = TORCH[epilogue](size, hidden).double()
    x = torch.randn(time, batch, size, dtype=torch.float64)
    states = [torch.randn(1, batch, hidden, dtype=torch.float64) for _ in range(EPILOGUES[epilogue].states)]

    def torchs(dtype: torch.dtype) -> list[Tensor]:
        module = copy.deepcopy(truth).to(dtype)
        inputs = x.to(dtype).requires_grad_()
        start = [each.to(dtype).requires_grad_() for each in states]
        y, _ = module(inputs, tuple(start) if len(start) == 2 else start[0])
        return [y, *torch.autograd.grad(weighted(y), [inputs, *start, *module.parameters()])]

    def weighted(y: Tensor) -> Tensor:
        return (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)).sum()

    inputs = x.float().requires_grad_()
    start = [each[0].float().requires_grad_() for each in states]
    weights = [parameter.detach().float().requires_grad_() for parameter in truth.parameters()]
    y, *_ = fused_scan(inputs, None, start, weights, epilogue, "gates")
    ours = [y, *torch.autograd.grad(weighted(y), [inputs, *start, *weights])]
    expected, theirs = torchs(torch.float64), torchs(torch.float32)
    for index, (a, b, c) in enumerate(zip(ours, theirs, expected, strict=True)):
        scale = c.abs().max()
        error, allowed = ((each.double() - c.view_as(each)).abs().max() / scale for each in (a, b))
        assert error <= 2 * allowed + 1e-7, f"{index}: {error:.1e}, torch {allowed:.1e}"


@every_cell
@pytest.mark.parametrize("save", ["gates", "recompute", "checkpoint"])
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=7), directions=st.integers(1, 2))
def test_any_lengths(name: str, save: Any, lengths: list[int], directions: int) -> None:
    """Whatever the lengths: the loop's outputs, states and gradients, with NaN in the padding."""
    torch.manual_seed(len(lengths))
    cells = [CELLS[name](3, hidden_size=5) for _ in range(directions)]
    call = Call(cells, random_normal((9, len(lengths), 3), 5), torch.tensor(lengths), f"{name}, {save}, {lengths}")
    assert compare_with_loop(KERNELS[name](save=save), call, [torch.float64])


@every_epilogue
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (40, 1, 3, 7), (3, 17, 20, 40), (130, 9, 16, 32)])
def test_saving_less_changes_nothing(epilogue: str, size: tuple[int, int, int, int]) -> None:
    """What is recomputed in backward is what was there."""
    given = draw(epilogue, *size, directions=2)
    for actual, expected in zip(results(epilogue, given, save="recompute"), results(epilogue, given), strict=True):
        assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("epilogue", list(TORCH))
@pytest.mark.parametrize("batch", [1, 3, 19])
def test_weights_that_do_not_fit_the_cache(epilogue: str, batch: int) -> None:
    """Outputs and every gradient of torch.nn, where panels of weights are fetched ahead."""
    hidden = 400 if EPILOGUES[epilogue].gates == 1 else 210
    given = draw(epilogue, 3, batch, 5, hidden)
    count = len(given["states"])
    assert hidden * hidden * EPILOGUES[epilogue].gates * 8 > 1 << 20
    module = TORCH[epilogue](5, hidden).double()
    found = []
    for ours in (True, False):
        x, *tensors = (each.clone().requires_grad_() for each in (given["x"], *given["states"], *given["weights"]))
        states, weights = tensors[:count], tensors[count:]
        if ours:
            y, *_ = fused_scan(x, None, states, weights, epilogue, "gates")
        else:
            names = [name for name, _ in module.named_parameters()]
            start = tuple(each[None] for each in states)
            call = (x, start if count == 2 else start[0])
            y, _ = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), call)
        total = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
        found.append([y, *torch.autograd.grad(total, [x, *states, *weights])])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@every_epilogue
def test_threads(epilogue: str) -> None:
    """At one number of threads every bit is the same each time; at another the digits that matter are."""
    given = draw(epilogue, 60, 7, 5, 24, directions=2)
    lengths = torch.tensor([60, 3, 44, 0, 17, 60, 31])
    found = []
    for n in (1, 2, 3, 4):
        with threads(n):
            first, second = results(epilogue, given, lengths), results(epilogue, given, lengths)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        found.append(first)
    for other in found[1:]:
        for actual, expected in zip(other, found[0], strict=True):
            assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@every_epilogue
def test_opcheck(epilogue: str) -> None:
    """Schema, shapes, derivative and compilation of the operator agree with one another."""
    given = draw(epilogue, 5, 3, 4, 6, directions=2)
    tensors = [given["x"], *given["states"], *given["weights"]]
    for tensor in tensors:
        tensor.requires_grad_()
    arguments = (given["x"], torch.tensor([5, 2, 0]), given["states"], given["weights"], epilogue, "gates")
    # What is kept is for backward alone; its values are not specified.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.seqlab_cells.fused_scan.default, arguments, test_utils=checks)


@every_cell
def test_long_padded_input_is_the_packed_one(name: str) -> None:
    """Ragged rows in both directions: torch.nn on packed input, from the same parameters."""
    torch.manual_seed(0)
    epilogue = EPILOGUE[name]
    module = TORCH[epilogue](6, 20, bidirectional=True)
    lengths = torch.tensor([90, 1, 37, 64, 90])
    x = torch.randn(90, 5, 6)
    packed, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, total_length=90)
    count = EPILOGUES[epilogue].states
    y, *_ = fused_scan(x, lengths, [torch.zeros(5, 20)] * 2 * count, list(module.parameters()), epilogue, "none")
    assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@every_epilogue
def test_twenty_thousand_steps(epilogue: str) -> None:
    """Long sequences keep their digits: float32 against float64."""
    given = draw(epilogue, 20_000, 2, 3, 8)
    narrow = {
        name: [v.float() for v in value] if isinstance(value, list) else value.float() for name, value in given.items()
    }
    for actual, expected in zip(results(epilogue, narrow), results(epilogue, given), strict=True):
        scale = expected.abs().max().clamp(min=1e-30)
        assert (actual - expected).abs().max() <= 2e-4 * scale


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are kinds of x86")
@pytest.mark.parametrize(("march", "width"), [("x86-64-v3", 32), pytest.param("x86-64", 16, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["gru", *(pytest.param(name, marks=pytest.mark.long) for name in ("lstm", "rnn"))])
def test_built_for_another_cpu(name: str, march: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build for AVX2, asked for by flag, and one with vectors as narrow as NEON's."""
    monkeypatch.setenv("SEQLAB_MARCH", march)
    library.cache_clear()
    try:
        assert library(EPILOGUE[name], torch.float32).vector_bytes() == width
        outcomes = list(run_suite(type("Suite", (KernelSuite,), {"kernel": staticmethod(KERNELS[name])})))
        assert [(one.check, one.detail) for one in outcomes if one.result == "failed"] == []
        for epilogue in EPILOGUES:
            if epilogue.lower().startswith(name):
                given = draw(epilogue, 23, 5, 3, 7, directions=2)
                for a, b in zip(results(epilogue, given), results(epilogue, given, save="recompute"), strict=True):
                    assert_close(a, b, rtol=1e-10, atol=1e-12)
    finally:
        library.cache_clear()
