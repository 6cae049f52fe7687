"""Every token is read and predicted once, in its place."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab.data import streams
from seqlab.data.streams import StreamLoader, WindowLoader

from ..numbered import Numbers


@given(
    count=st.integers(1, 200), rows=st.integers(1, 7), window=st.integers(1, 30), ahead=st.sampled_from([1, 50, 999])
)
def test_each_token_is_a_target_once_and_follows_its_input(count, rows, window, ahead):
    streams._READ_AHEAD, before = ahead, streams._READ_AHEAD
    try:
        loader = StreamLoader(Numbers(count), 1, streams=rows, window=window)
        batches = list(loader)
    finally:
        streams._READ_AHEAD = before
    assert len(batches) == len(loader)
    targets = torch.cat([batch.targets.flatten() for batch in batches])
    assert sorted(targets[targets > 0].tolist()) == list(range(2, count + 2))
    last = None
    for batch in batches:
        there = batch.targets > 0
        assert torch.equal(batch.inputs[there] + 1, batch.targets[there])  # the first one's is 1, what begins
        assert not batch.inputs[~there].any()
        lengths = there.sum(1)
        assert batch.lengths is None or torch.equal(batch.lengths, lengths)
        assert batch.targets.shape[1] == int(lengths.max())
        if last is not None:  # each row goes on where it ended
            alive = there[:, 0]
            assert torch.equal(batch.inputs[alive, 0], last.targets[alive, -1])
        last = batch


@given(count=st.integers(10, 200), rows=st.integers(1, 7), window=st.integers(1, 10))
def test_even_rows_leave_out_fewer_tokens_than_rows(count, rows, window):
    loader = StreamLoader(Numbers(count), 1, streams=rows, window=window, even=True)
    batches = list(loader)
    assert all(batch.lengths is None for batch in batches)
    predicted = sum(int((batch.targets > 0).sum()) for batch in batches)
    assert count - rows < predicted <= count


@given(count=st.integers(5, 100), window=st.integers(1, 5))
def test_windows_apart_are_whole_and_spread(count, window):
    loader = WindowLoader(Numbers(count), 1, window=window, rows=3, most=7 * window)
    batches = list(loader)
    assert len(batches) == len(loader)
    starts = torch.cat([batch.inputs[:, 0] for batch in batches])
    assert int(starts[0]) == 1
    for batch in batches:
        assert torch.equal(batch.inputs + 1, batch.targets)
        assert batch.inputs.shape[1] == window
    assert len(starts) == min(7, count // window)
