"""Examples of unequal length, against Python lists."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Examples, Ragged

sequences = st.lists(st.lists(st.integers(1, 99), max_size=6), max_size=5)


def ragged(rows: list[list[int]]) -> Ragged:
    return Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])


@given(sequences, st.data())
def test_padded_rows_are_the_sequences_and_zeros(rows: list[list[int]], data: st.DataObject) -> None:
    """Any rows, in any order, as often as asked."""
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    values, lengths = ragged(rows).padded(torch.tensor(chosen, dtype=torch.int64))
    longest = max((len(rows[row]) for row in chosen), default=0)
    assert values.shape == (len(chosen), longest)
    assert values.tolist() == [rows[row] + [0] * (longest - len(rows[row])) for row in chosen]
    if lengths is None:
        assert {len(rows[row]) for row in chosen} <= {longest}
    else:
        assert lengths.tolist() == [len(rows[row]) for row in chosen]


def test_features_are_padded_with_zeros() -> None:
    sequences = [torch.ones(3, 2), torch.ones(1, 2)]
    values, lengths = Ragged.of(sequences).padded(torch.tensor([1, 0]))
    assert lengths is not None
    assert lengths.tolist() == [1, 3]
    assert values.sum(-1).tolist() == [[2, 0, 0], [2, 2, 2]]


@given(sequences)
def test_starts_are_where_the_sequences_begin(rows: list[list[int]]) -> None:
    joined = ragged(rows)
    assert len(joined) == len(rows)
    for row, start in zip(rows, joined.starts.tolist(), strict=True):
        assert joined.values[start : start + len(row)].tolist() == row


@pytest.mark.parametrize(
    ("rows", "even"),
    [([[1, 2], [3, 4]], [[1, 2], [3, 4]]), ([[1, 2], [3]], None), ([[], []], None), ([], None)],
)
def test_sequences_of_one_length_are_a_rectangle(rows: list[list[int]], even: list[list[int]] | None) -> None:
    found = ragged(rows).even
    assert (None if found is None else found.tolist()) == even


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ragged(torch.zeros(4), torch.tensor([1, 2])), "lengths sum to 3, but there are 4 values"),
        (lambda: Examples(["a", "b"], torch.zeros(3)), "2 inputs, but 3 targets"),
        (lambda: Examples(ragged([[1], [2, 3]]), torch.zeros(1)), "2 inputs, but 1 targets"),
    ],
)
def test_parts_that_disagree_are_named_with_both_numbers(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_examples_count_their_targets() -> None:
    assert len(Examples(["a", "b"], torch.zeros(2))) == 2
