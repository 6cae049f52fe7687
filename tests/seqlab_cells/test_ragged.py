"""Padding cannot be seen, by the loop or by torch's routines, forward or backward."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from seqlab import Recurrent

from .networks import INPUT, Result, both_kernels, every_network, network, run, starts

ragged = st.lists(st.integers(0, 6), min_size=1, max_size=4)
few = settings(max_examples=8)


def padded_with(x: Tensor, lengths: list[int], value: float) -> Tensor:
    dead = torch.arange(len(x)).unsqueeze(1) >= torch.tensor(lengths)
    return x.masked_fill(dead.unsqueeze(-1), value)


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
        alone, end = recurrent(x[:length, one], tuple(leaf[:, one] for leaf in start))
        assert_close(output[:length, one], alone, rtol=0, atol=1e-13)
        assert_close([leaf[:, one] for leaf in state], list(end), rtol=0, atol=1e-13)


@every_network
@both_kernels
def test_rows_of_length_zero_keep_the_state_they_came_with(kind: str, kernel: str) -> None:
    recurrent, x, start = batch(kind, kernel, [3, 0, 2])
    output, state = recurrent(x, start, torch.tensor([3, 0, 2]))
    assert not output[:, 1].any()
    for leaf, given_leaf in zip(state, start, strict=True):
        assert torch.equal(leaf[:, 1], given_leaf[:, 1])


@every_network
def test_vendor_without_a_valid_step_is_the_loop(kind: str) -> None:
    """All rows empty, with and without padded steps."""
    for time in (0, 3):
        for kernel in ("loop", "vendor"):
            recurrent, _, start = batch(kind, kernel, [0, 0])
            output, state = recurrent(torch.randn(time, 2, INPUT).double(), start, torch.tensor([0, 0]))
            assert output.shape == (time, 2, recurrent.output_size)
            assert not output.any()
            assert_close(state, start, rtol=0, atol=0)
