"""The base class of kernels: both directions, ragged rows and empty input around one cell forward."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from seqlab import Kernel
from seqlab.recurrence import Loop, valid_mask
from seqlab_cells.gru import GRU


class Forward(Kernel):
    """One cell forward, by torch, with garbage on padding."""

    name, cell = "forward", GRU

    def refuses(self, cells, x, lengths):
        return None

    def scan_one(self, cell, x, state, lengths):
        y, (end,) = Loop().scan_one(cell, x, state, lengths)
        return (y if lengths is None else y.masked_fill(~valid_mask(lengths, len(x)).unsqueeze(-1), 7.0)), (end,)


@given(
    lengths=st.none() | st.lists(st.integers(0, 5), min_size=3, max_size=3),
    directions=st.integers(1, 2),
    time=st.sampled_from([0, 5]),
)
def test_one_direction_is_enough(lengths, directions, time):
    """NaN in the padding reaches nothing, and nothing that stands there comes out."""
    cells = [GRU(2, 3).double() for _ in range(directions)]
    given_lengths = None if lengths is None else torch.tensor(lengths).clamp(max=time)
    x = torch.randn(time, 3, 2, dtype=torch.float64)
    states = [(torch.randn(3, 3, dtype=torch.float64),) for _ in cells]
    expected = Loop().scan(cells, x, states, given_lengths)
    if given_lengths is not None:
        x = x.masked_fill(~valid_mask(given_lengths, time).unsqueeze(-1), torch.nan)
    assert_close(Forward().scan(cells, x, states, given_lengths), expected, rtol=0, atol=0)
    assert_close(Forward().outputs(cells, x, states, given_lengths), expected[0], rtol=0, atol=0)


def test_a_kernel_without_a_scan_says_what_to_implement():
    class Nothing(Forward):
        scan_one = Kernel.scan_one

    with pytest.raises(NotImplementedError, match="Nothing must implement scan_one"):
        Nothing().scan([GRU(2, 3)], torch.zeros(1, 1, 2), [(torch.zeros(1, 3),)], None)
