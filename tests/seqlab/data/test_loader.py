"""Batches: every example once, like lengths together, the same order for the same seed and epoch."""

import os
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Ragged
from seqlab.data.loader import BucketLoader
from seqlab.distributed.signals import SIGNALS


def split(lengths):
    """Number every step, so that a batch shows whose steps it holds."""
    lengths = torch.tensor(lengths)
    return Ragged(torch.arange(1, int(lengths.sum()) + 1), lengths), torch.arange(len(lengths))


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    batch_size=st.integers(1, 16),
    bucket=st.integers(1, 5),
    shuffle=st.booleans(),
)
def test_an_epoch_holds_every_example_once_and_unchanged(lengths, batch_size, bucket, shuffle):
    inputs, targets = split(lengths)
    loader = BucketLoader(inputs, targets, batch_size=batch_size, shuffle=shuffle, bucket=bucket)
    seen = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert max(len(batch.targets) for batch in batches) <= batch_size
        for batch in batches:
            for row, target in enumerate(batch.targets.tolist()):
                length = lengths[target] if batch.lengths is None else int(batch.lengths[row])
                assert length == lengths[target]
                start = int(inputs.starts[target])
                assert batch.inputs[row, :length].tolist() == list(range(start + 1, start + 1 + length))
                assert not batch.inputs[row, length:].any()
        seen.append(torch.cat([batch.targets for batch in batches]))
        assert sorted(seen[-1].tolist()) == list(range(len(lengths)))


def test_the_order_depends_on_seed_and_epoch_alone():
    inputs, targets = split([1 + i % 7 for i in range(200)])

    def order(seed, epoch):
        loader = BucketLoader(inputs, targets, batch_size=16, shuffle=True, seed=seed)
        loader.set_epoch(epoch)
        return torch.cat([batch.targets for batch in loader]).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_sorting_by_length_saves_padding():
    inputs, targets = split(torch.randint(1, 50, (2000,), generator=torch.Generator().manual_seed(0)).tolist())

    def padding(bucket):
        loader = BucketLoader(inputs, targets, batch_size=50, shuffle=True, bucket=bucket)
        return sum(batch.inputs.numel() for batch in loader) / len(inputs.values) - 1

    assert padding(100) < 0.05 < 0.5 < padding(1)


def test_weights_draw_with_replacement():
    inputs, targets = split([2] * 1000)
    weights = torch.zeros(1000)
    weights[3] = 1.0
    loader = BucketLoader(inputs, targets, batch_size=100, shuffle=True, weights=weights)
    assert {int(t) for batch in loader for t in batch.targets} == {3}
    assert len(loader) == 10


_TOLD = []
os.register_at_fork(after_in_child=lambda: [os.kill(os.getpid(), number) for number in _TOLD])


@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_outlives_a_signal_from_its_first_moment(monkeypatch, number):
    """A scheduler sends it to every process of a job; a worker has to come to where it leaves it to the run."""
    monkeypatch.setattr(f"{__name__}._TOLD", [number])
    inputs, targets = split([1 + i % 7 for i in range(40)])
    loader = BucketLoader(inputs, targets, batch_size=8, shuffle=False, workers=2)
    assert sorted(int(target) for batch in loader for target in batch.targets) == list(range(40))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
