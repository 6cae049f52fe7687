"""Lengths in every form in which they are given, and what is refused; the right result is each row run by itself."""

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import Cell, Ragged, Recurrent
from seqlab.contracts.batch import as_lengths
from seqlab.recurrence import choose, last_valid, reverse_within, scan, valid_mask
from seqlab_cells.gru import GRU
from seqlab_cells.lstm import LSTM

FORMS: dict[str, Callable[[list[int]], Any]] = {
    "list": list,
    "tuple": tuple,
    "range": lambda lengths: range(lengths[0], lengths[-1] - 1, -1),
    "array": lambda lengths: array.array("i", lengths),
    "a list of tensors": lambda lengths: list(torch.tensor(lengths)),
    "a list of numpy's": lambda lengths: list(np.array(lengths)),
    "numpy, backward": lambda lengths: np.array(lengths[::-1])[::-1],
    **{f"numpy {each}": lambda n, each=each: np.array(n, each) for each in ("uint8", "int16", "uint64", ">i4")},
    **{f"torch {each}": lambda n, each=each: torch.tensor(n, dtype=each) for each in (torch.uint8, torch.int32)},
}
WRONG: dict[str, tuple[Any, str]] = {
    "too few": ([3, 2], "one number for each of the 3 rows of the batch, got 2"),
    "too many": ([3, 2, 1, 1], "one number for each of the 3 rows of the batch, got 4"),
    "negative": ([3, -2, 1], "from 0 to 4, the steps of the input, got -2 in row 1"),
    "too long": (np.array([3, 2, 5]), "from 0 to 4, the steps of the input, got 5 in row 2"),
    "enormous": ([3, 2, 10**30], "must be integers"),
    "floats": ([3.0, 2.0, 1.0], "must be integers, one for each row, got 3.0"),
    "numpy's floats": (np.array([3.0, 2.0, 1.0]), "must be integers, one for each row, got 3.0"),
    "torch's floats": (torch.tensor([3.0, 2.0, 1.0]), "must be integers, got a tensor of torch.float32"),
    "booleans": ([True, True, False], "must be integers, one for each row, got True"),
    "torch's booleans": (torch.tensor([True, True, False]), "must be integers, got a tensor of torch.bool"),
    "nested": ([[3, 2, 1]], "must be integers, one for each row, got [3, 2, 1]"),
    "a matrix": (torch.ones(1, 3, dtype=torch.int64), "one integer for each row, got a tensor of shape (1, 3)"),
    "a number": (3, "a sequence of integers, one for each row, got 3"),
    "a text": ("321", "a sequence of integers, one for each row, got '321'"),
    "nothing known": ([3, None, 1], "must be integers, one for each row, got None"),
}


@pytest.mark.parametrize("cell", [LSTM, GRU])
@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_lengths_ends_each_row_where_it_ends_alone(cell: type[Cell], form: str) -> None:
    recurrent = Recurrent(cell, 2, hidden_size=3, bidirectional=True).double()
    x, lengths = torch.randn(4, 3, 2, dtype=torch.float64), [3, 2, 1]
    output, state = recurrent(x, lengths=FORMS[form](lengths))
    for row, length in enumerate(lengths):
        alone, end = recurrent(x[:length, row : row + 1])
        assert_close(output[:length, row : row + 1], alone)
        assert not output[length:, row].any()
        for leaf, expected in zip(state, end, strict=True):
            assert_close(leaf[:, row : row + 1], expected)


def _scan(lengths: Any) -> Tensor:
    cell = GRU(2, 3)
    return scan(cell, torch.ones(4, 3, 2), (torch.zeros(3, 3),), lengths)[0]


def _choose(lengths: Any) -> str:
    return choose("auto", [], [GRU(2, 3)], torch.ones(4, 3, 2), lengths).kernel.name


TAKERS: dict[str, Callable[[Any], Any]] = {
    "Recurrent": lambda lengths: Recurrent(GRU, 2, hidden_size=3)(torch.ones(4, 3, 2), lengths=lengths),
    "batch first": lambda n: Recurrent(GRU, 2, hidden_size=3, batch_first=True)(torch.ones(3, 4, 2), lengths=n),
    "scan": _scan,
    "choose": _choose,
    "reverse_within": lambda lengths: reverse_within(torch.ones(4, 3, 2), lengths),
    "last_valid": lambda lengths: last_valid(torch.ones(4, 3, 2), lengths),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_wrong_lengths_are_named_by_whoever_takes_them(taker: str) -> None:
    TAKERS[taker]((3, 2, 0))
    for lengths, message in WRONG.values():
        with pytest.raises(ValueError, match=r"^lengths must ") as caught:
            TAKERS[taker](lengths)
        assert message in str(caught.value)


def test_a_small_integer_type_does_not_wrap() -> None:
    """200 - 1 - 150 is negative in no unsigned byte, and 200 rows x 2 is beyond one."""
    x = torch.arange(400.0).view(200, 2, 1)
    lengths = torch.tensor([200, 100], dtype=torch.uint8)
    assert reverse_within(x, lengths)[:, 0].equal(x[:, 0].flip(0))
    assert last_valid(x, lengths).flatten().tolist() == [398.0, 199.0]
    assert valid_mask(lengths, 200).sum(0).tolist() == [200, 100]


def test_ragged_takes_any_form_and_refuses_what_is_none() -> None:
    for form in FORMS.values():
        made = Ragged(torch.arange(6), form([3, 2, 1]))
        assert made.lengths.dtype == torch.int64
        assert made.padded(torch.arange(3))[0].tolist() == [[0, 1, 2], [3, 4, 0], [5, 0, 0]]
    with pytest.raises(ValueError, match="lengths must be >= 0, got -1"):
        Ragged(torch.arange(3), [4, -1])
    with pytest.raises(ValueError, match="lengths must be integers"):
        Ragged(torch.arange(3), torch.tensor([2.0, 1.0]))


def test_no_rows_have_no_lengths() -> None:
    assert as_lengths([]).dtype == torch.int64
    assert Recurrent(GRU, 2, hidden_size=3)(torch.ones(4, 0, 2), lengths=())[0].shape == (4, 0, 3)
