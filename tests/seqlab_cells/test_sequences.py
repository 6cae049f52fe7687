"""Padding is invisible, runs can be cut anywhere, and truncation reaches exactly as far as it should."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from seqlab import Recurrent

from .common import INPUT, Result, both_kernels, every_network, network, run, starts

ragged = st.lists(st.integers(0, 6), min_size=1, max_size=4)
few = settings(max_examples=8)


def padded_with(x: Tensor, lengths: list[int], value: float) -> Tensor:
    padding = torch.arange(len(x)).unsqueeze(1) >= torch.tensor(lengths)
    return x.masked_fill(padding.unsqueeze(-1), value)


def batch(kind: str, kernel: str, lengths: list[int], extra: int = 0) -> tuple[Recurrent, Tensor, tuple[Tensor, ...]]:
    recurrent = network(kind, kernel, bidirectional=True)
    x = torch.randn(max(lengths) + extra, len(lengths), INPUT, dtype=torch.float64)
    return recurrent, x, starts(recurrent, len(lengths))


def shortened(result: Result, time: int) -> Result:
    assert not result.output[time:].any()
    assert not result.to_input[time:].any()
    return result._replace(output=result.output[:time], to_input=result.to_input[:time])


@every_network
@both_kernels
@few
@given(lengths=ragged, extra=st.integers(0, 2))
def test_nan_in_padding_cannot_be_seen(kind: str, kernel: str, lengths: list[int], extra: int) -> None:
    """NaN beyond each row's length changes no output, no state and no gradient, by not one bit."""
    recurrent, x, start = batch(kind, kernel, lengths, extra or not any(lengths))
    clean = run(recurrent, padded_with(x, lengths, 0.0), start, lengths)
    poisoned = run(recurrent, padded_with(x, lengths, float("nan")), start, lengths)
    assert_close(poisoned, clean, rtol=0, atol=0)
    assert torch.isfinite(clean.to_input).all()
    assert not clean.output[torch.arange(len(x)).unsqueeze(1) >= torch.tensor(lengths)].any()


@every_network
@both_kernels
@few
@given(lengths=ragged.filter(any), extra=st.integers(1, 5))
def test_more_padding_changes_nothing(kind: str, kernel: str, lengths: list[int], extra: int) -> None:
    recurrent, x, start = batch(kind, kernel, lengths, extra)
    longer = run(recurrent, x, start, lengths)
    tight = run(recurrent, x[: max(lengths)], start, lengths)
    assert_close(shortened(longer, max(lengths)), tight, rtol=1e-12, atol=1e-12)


@every_network
@both_kernels
@few
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_a_row_alone_equals_the_row_in_the_batch(kind: str, kernel: str, lengths: list[int]) -> None:
    """Outputs, states and the gradients that belong to one row; parameter gradients are the sum over rows."""
    recurrent, x, start = batch(kind, kernel, lengths)
    output, state = recurrent(x, start, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone, end = recurrent(x[:length, one], tuple(each[:, one] for each in start))
        assert_close(output[:length, one], alone, rtol=0, atol=1e-13)
        assert_close([each[:, one] for each in state], list(end), rtol=0, atol=1e-13)


@every_network
@both_kernels
def test_rows_of_length_zero_keep_the_state_they_came_with(kind: str, kernel: str) -> None:
    recurrent, x, start = batch(kind, kernel, [3, 0, 2])
    output, state = recurrent(x, start, torch.tensor([3, 0, 2]))
    assert not output[:, 1].any()
    for each, before in zip(state, start, strict=True):
        assert torch.equal(each[:, 1], before[:, 1])


@every_network
@both_kernels
def test_a_run_cut_at_any_point_equals_the_uncut_run(kind: str, kernel: str) -> None:
    """Gradients through the cut included."""
    recurrent = network(kind, kernel, num_layers=2)
    x = torch.randn(8, 3, INPUT, dtype=torch.float64, requires_grad=True)
    whole, end = recurrent(x)
    (expected,) = torch.autograd.grad(whole.square().sum(), x)
    for cut in range(1, 8):
        first, state = recurrent(x[:cut])
        second, state = recurrent(x[cut:], state)
        joined = torch.cat([first, second])
        (gradient,) = torch.autograd.grad(joined.square().sum(), x)
        assert_close((joined, *state, gradient), (whole, *end, expected), rtol=0, atol=1e-13)


@every_network
@both_kernels
@pytest.mark.parametrize("k", [1, 3, 4])
def test_truncation_at_k_reaches_exactly_k_steps(kind: str, kernel: str, k: int) -> None:
    """The gradient of the last output of a segment: k inputs, exactly zero further back; the values are the same."""
    recurrent = network(kind, kernel)
    x = torch.randn(2 * k, 2, INPUT, dtype=torch.float64, requires_grad=True)
    whole, end = recurrent(x)
    recurrent.truncate = k
    output, state = recurrent(x)
    assert_close((output, *state), (whole, *end), rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad(output[-1].sum(), x)
    reached = gradient.flatten(1).abs().sum(1) > 0
    assert reached.tolist() == [False] * k + [True] * k


@every_network
@both_kernels
def test_truncation_goes_with_ragged_rows_in_both_directions(kind: str, kernel: str) -> None:
    """Each direction is cut at every k-th of its own steps; the values are those without a cut."""
    recurrent = network(kind, kernel, bidirectional=True)
    x = torch.randn(7, 4, INPUT, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 0, 3, 5])
    whole, end = recurrent(x, lengths=lengths)
    recurrent.truncate = 2
    output, state = recurrent(x, lengths=lengths)
    assert_close((output, *state), (whole, *end), rtol=0, atol=1e-13)
    hidden = output.shape[-1] // 2
    for row, t, direction, reached in (
        (0, 6, slice(None, hidden), [6]),  # segments 0-1, 2-3, 4-5, 6
        (0, 0, slice(hidden, None), [0]),  # segments 6-5, 4-3, 2-1, 0
        (3, 3, slice(None, hidden), [2, 3]),
        (3, 1, slice(hidden, None), [1, 2]),  # from its own end: 4-3, 2-1, 0
    ):
        (gradient,) = torch.autograd.grad(output[t, row, direction].sum(), x, retain_graph=True)
        assert gradient.abs().sum(-1).nonzero().tolist() == [[step, row] for step in reached]
