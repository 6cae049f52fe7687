"""Laws of padding, against plain indexing of one row at a time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqlab.contracts.masks import zero_padding
from seqlab.recurrence import last_valid, reverse_within, valid_mask

ragged = st.lists(st.integers(0, 7), min_size=1, max_size=5)


def filled(lengths: list[int], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Distinct numbers everywhere, ``[time, batch, 2]``, and the lengths as a tensor."""
    time, batch = max(lengths) + extra, len(lengths)
    return torch.arange(time * batch * 2.0).view(time, batch, 2) + 1, torch.tensor(lengths)


@given(ragged, st.integers(0, 2))
def test_valid_mask_marks_each_row_up_to_its_length(lengths: list[int], extra: int) -> None:
    mask = valid_mask(torch.tensor(lengths), max(lengths) + extra)
    assert mask.T.tolist() == [[t < length for t in range(max(lengths) + extra)] for length in lengths]


@given(ragged, st.integers(0, 2))
def test_reversal_is_each_row_flipped_with_its_padding_in_place(lengths: list[int], extra: int) -> None:
    x, n = filled(lengths, extra)
    reversed_ = reverse_within(x, n)
    for row, length in enumerate(lengths):
        assert torch.equal(reversed_[:length, row], x[:length, row].flip(0))
        assert torch.equal(reversed_[length:, row], x[length:, row])


@given(ragged, st.integers(0, 2))
def test_reversal_is_its_own_inverse(lengths: list[int], extra: int) -> None:
    x, n = filled(lengths, extra)
    assert torch.equal(reverse_within(reverse_within(x, n), n), x)


@given(ragged)
def test_full_rows_reverse_as_without_lengths(lengths: list[int]) -> None:
    x, n = filled(lengths)
    assert torch.equal(reverse_within(x, torch.full_like(n, len(x))), reverse_within(x, None))


@given(ragged, st.integers(0, 2), st.booleans())
def test_last_valid_is_each_rows_last_step(lengths: list[int], extra: int, with_default: bool) -> None:
    x, n = filled(lengths, extra)
    default = -torch.rand(len(lengths), 2) if with_default else None
    last = last_valid(x, n, default)
    for row, length in enumerate(lengths):
        empty = default[row] if default is not None else torch.zeros(2)
        assert torch.equal(last[row], x[length - 1, row] if length else empty)


def test_no_time_steps_give_the_default() -> None:
    x, default = torch.zeros(0, 3, 2), torch.rand(3, 2)
    for lengths in (None, torch.zeros(3, dtype=torch.int64)):
        assert torch.equal(last_valid(x, lengths), torch.zeros(3, 2))
        assert torch.equal(last_valid(x, lengths, default), default)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@given(lengths=ragged)
def test_zero_padding_removes_poison_and_its_gradient(poison: float, lengths: list[int]) -> None:
    x, n = filled(lengths, 1)
    x = torch.where(valid_mask(n, len(x)).unsqueeze(-1), x, poison).requires_grad_()
    (zero_padding(x, n) ** 2).sum().backward()
    assert x.grad is not None
    for row, length in enumerate(lengths):
        assert torch.equal(x.grad[:length, row], 2 * x.detach()[:length, row])
        assert not x.grad[length:, row].any()
