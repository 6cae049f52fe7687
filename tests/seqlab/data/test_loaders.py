"""Batch loaders: every example once, the same batches after a resume, with workers and over several processes."""

import os
import signal
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqlab import Ragged
from seqlab.data import streams
from seqlab.data.loaders import BucketLoader, ContiguousLoader, GeneratedLoader, Shard
from seqlab.data.streams import StreamLoader, WindowLoader
from seqlab.distributed.signals import SIGNALS

from ..numbered import Numbers


def split(lengths):
    """Number every step, so that a batch shows whose steps it holds."""
    lengths = torch.as_tensor(lengths)
    return Ragged(torch.arange(1, int(lengths.sum()) + 1), lengths), torch.arange(len(lengths)) + 1


def ragged_lengths(count):
    return [1 + 5 * row % 7 for row in range(count)]


def generate(count, seed):
    """Rows of unequal lengths, all different."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=generator)
    return Ragged(torch.randint(1, 10**9, (int(lengths.sum()),), generator=generator), lengths), torch.arange(count) + 1


def generate_even(count, seed):
    """Rows of five steps of three features, all different."""
    values = torch.randn(5 * count, 3, generator=torch.Generator().manual_seed(seed))
    return Ragged(values, torch.full((count,), 5)), torch.arange(count) + 1


LOADERS = {
    "bucket": lambda count, **options: BucketLoader(*split(ragged_lengths(count)), shuffle=True, bucket=2, **options),
    "sorted": lambda count, **options: BucketLoader(*split(ragged_lengths(count)), shuffle=False, **options),
    "contiguous": lambda count, **options: ContiguousLoader(*split(ragged_lengths(count)), drop_last=True, **options),
    "generated": lambda count, **options: GeneratedLoader(generate, examples=count, **options),
    "stream": lambda count, **options: StreamLoader(Numbers(9 * count), 1, window=4, **options),
    "even stream": lambda count, **options: StreamLoader(Numbers(9 * count), 1, window=4, drop_last=True, **options),
    "window": lambda count, **options: WindowLoader(Numbers(9 * count), 1, window=4, **options),
}
ANY = pytest.mark.parametrize("name", LOADERS)


def batches(loader, epoch=0, done=0):
    loader.set_epoch(epoch)
    loader.load_state_dict({"done": done})
    return list(loader)


def same(one, other):
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


@ANY
@given(count=st.integers(1, 200), batch_size=st.integers(1, 40), done=st.integers(0, 3), epoch=st.integers(0, 3))
def test_a_batch_depends_on_seed_epoch_and_index_alone(name, count, batch_size, done, epoch):
    """So a loader that starts within an epoch gives the rest of it."""
    whole = batches(LOADERS[name](count, batch_size=batch_size, seed=5), epoch)
    loader = LOADERS[name](count, batch_size=batch_size, seed=5)
    assert len(whole) == len(loader)
    for batch, again in zip(whole[done:], batches(loader, epoch, done), strict=True):
        assert same(batch, again)
    assert loader.state_dict() == {"done": max(done, len(whole))}


@pytest.mark.parametrize("name", ["bucket", "generated"])
def test_another_seed_or_epoch_has_other_batches(name):
    loader, other = (LOADERS[name](1500, batch_size=400, seed=seed) for seed in (5, 6))
    first = batches(loader, 1)[0]
    assert not same(first, batches(loader, 2)[0])
    assert not same(first, batches(other, 1)[0])
    assert not same(first, batches(loader, 1)[1])


@ANY
def test_overfitting_repeats_the_first_batches(name):
    loader = LOADERS[name](30, batch_size=3, overfit_batches=2)
    assert all(map(same, batches(loader), batches(loader, epoch=4)))
    assert len(batches(loader)) == len(loader) == 2
    assert all(map(same, batches(loader), batches(LOADERS[name](30, batch_size=3))[:2]))


@ANY
def test_workers_build_the_same_batches(name):
    alone, ahead = (LOADERS[name](30, batch_size=8, workers=workers) for workers in (0, 1))
    assert all(map(same, batches(alone, 2), batches(ahead, 2)))


@ANY
@given(count=st.integers(1, 120), batch_size=st.integers(1, 16), world=st.integers(1, 5), by_steps=st.booleans())
def test_shards_make_up_the_batch_and_their_weights_its_mean(name, count, batch_size, world, by_steps):
    options = {"batch_size": batch_size, "weigh_steps": by_steps}
    whole = batches(LOADERS[name](count, **options))
    loaders = [LOADERS[name](count, **options, shard=Shard(rank, world)) for rank in range(world)]
    for batch, *shards in zip(whole, *([(b, loader.weight) for b in loader] for loader in loaders), strict=True):
        shards = [(shard, weight) for shard, weight in shards if weight]
        assert sorted(chain.from_iterable(tokens(shard.targets) for shard, _ in shards)) == sorted(
            tokens(batch.targets)
        )
        assert sum(weight for _, weight in shards) == pytest.approx(world)
        if batch.targets.ndim == 1:
            sizes = [int((shard.inputs > 0).sum()) if by_steps else len(shard.inputs) for shard, _ in shards]
            assert [weight / world for _, weight in shards] == pytest.approx([size / sum(sizes) for size in sizes])


def tokens(targets):
    return targets[targets > 0].tolist()


@pytest.mark.parametrize(
    ("loader", "sizes"),
    [
        (lambda **sizes: BucketLoader(*split([1, 2]), shuffle=True, **sizes), ("batch_size", "bucket")),
        (lambda **sizes: ContiguousLoader(*split([1, 2]), drop_last=True, **sizes), ("batch_size",)),
        (lambda **sizes: GeneratedLoader(generate, **{"examples": 3, **sizes}), ("batch_size", "examples")),
        (lambda **sizes: StreamLoader(Numbers(9), 1, **{"window": 3, **sizes}), ("batch_size", "window")),
    ],
)
def test_sizes_are_positive(loader, sizes):
    for size in sizes:
        with pytest.raises(ValueError, match=f"{size} must be >= 1, got 0"):
            loader(**{"batch_size": 2, size: 0})
    with pytest.raises(ValueError, match="workers must be >= 0, got -1"):
        loader(batch_size=1, workers=-1)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    batch_size=st.integers(1, 16),
    bucket=st.integers(1, 5),
    shuffle=st.booleans(),
)
def test_an_epoch_holds_every_example_once_and_unchanged(lengths, batch_size, bucket, shuffle):
    inputs, targets = split(lengths)
    loader = BucketLoader(inputs, targets, batch_size=batch_size, shuffle=shuffle, bucket=bucket)
    for epoch in range(2):
        found = batches(loader, epoch)
        assert max(len(batch.targets) for batch in found) <= batch_size
        for batch in found:
            for row, target in enumerate(batch.targets.tolist()):
                length, start = lengths[target - 1], int(inputs.starts[target - 1])
                assert batch.lengths is None or length == int(batch.lengths[row])
                assert batch.inputs[row, :length].tolist() == list(range(start + 1, start + 1 + length))
                assert not batch.inputs[row, length:].any()
        assert sorted(torch.cat([batch.targets for batch in found]).tolist()) == targets.tolist()


def test_sorting_by_length_saves_padding():
    inputs, targets = split(torch.randint(1, 50, (2000,), generator=torch.Generator().manual_seed(0)))

    def padding(bucket):
        loader = BucketLoader(inputs, targets, batch_size=50, shuffle=True, bucket=bucket)
        return sum(batch.inputs.numel() for batch in loader) / len(inputs.values) - 1

    assert padding(100) < 0.05 < 0.5 < padding(1)


def test_weights_draw_with_replacement():
    weights = torch.zeros(1000)
    weights[3] = 1.0
    loader = BucketLoader(*split([2] * 1000), batch_size=100, shuffle=True, weights=weights)
    assert {int(t) for batch in loader for t in batch.targets} == {4}
    assert len(loader) == 10


_TOLD = []
os.register_at_fork(after_in_child=lambda: [os.kill(os.getpid(), number) for number in _TOLD])


@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_survives_a_signal_from_its_start(monkeypatch, number):
    """A scheduler sends it to every process of a job; the main process alone handles it."""
    monkeypatch.setattr(f"{__name__}._TOLD", [number])
    loader = LOADERS["sorted"](40, batch_size=8, workers=2)
    assert sorted(int(target) for batch in loader for target in batch.targets) == list(range(1, 41))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(("count", "size"), [(10, 4), (7, 7), (7, 4), (12, 5), (1, 3), (3, 8)])
@pytest.mark.parametrize("drop_last", [True, False])
def test_each_row_of_contiguous_batches_continues_the_row_before(count, size, drop_last):
    loader = ContiguousLoader(*split([1] * count), batch_size=size, drop_last=drop_last)
    rows = torch.stack([batch.targets for batch in loader])  # all of one size
    assert rows.shape[1] <= size
    assert torch.equal(rows[1:], rows[:-1] + 1)
    seen = sorted(rows.flatten().tolist())
    assert len(set(seen)) == len(seen) > count - size if drop_last else seen == list(range(1, count + 1))


@pytest.mark.parametrize("draw", [generate, generate_even])
@given(examples=st.integers(1, 2500), batch_size=st.integers(200, 700))
def test_generated_batches_are_the_generated_rows(draw, examples, batch_size):
    """Those of one length are sliced without a copy."""
    loader = GeneratedLoader(draw, examples=examples, batch_size=batch_size)
    found = list(loader)
    assert [len(batch.targets) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert sum(len(batch.targets) for batch in found) == examples
    for number, batch in enumerate(found):
        inputs, targets, rows = loader.batch_rows(number)
        values, lengths = inputs.padded(rows)
        assert (batch.lengths is None) == (lengths is None)
        assert torch.equal(batch.inputs, values)
        assert torch.equal(batch.targets, targets[rows])


@given(
    count=st.integers(1, 200), rows=st.integers(1, 7), window=st.integers(1, 30), ahead=st.sampled_from([1, 50, 999])
)
def test_each_token_is_a_target_once_and_follows_its_input(count, rows, window, ahead):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_READ_AHEAD", ahead)
        loader = StreamLoader(Numbers(count), 1, batch_size=rows, window=window)
        found = list(loader)
    assert len(found) == len(loader)
    targets = torch.cat([batch.targets.flatten() for batch in found])
    assert sorted(targets[targets > 0].tolist()) == list(range(2, count + 2))
    last = None
    for batch in found:
        valid = batch.targets > 0
        assert torch.equal(batch.inputs[valid] + 1, batch.targets[valid])  # the first input is 1, given as `begin`
        assert not batch.inputs[~valid].any()
        lengths = valid.sum(1)
        assert batch.lengths is None or torch.equal(batch.lengths, lengths)
        assert batch.targets.shape[1] == int(lengths.max())
        if last is not None:  # each row continues that of the batch before
            assert torch.equal(batch.inputs[valid[:, 0], 0], last.targets[valid[:, 0], -1])
        last = batch


@given(count=st.integers(10, 200), rows=st.integers(1, 7), window=st.integers(1, 10))
def test_even_streams_leave_out_fewer_tokens_than_rows(count, rows, window):
    found = list(StreamLoader(Numbers(count), 1, batch_size=rows, window=window, drop_last=True))
    assert all(batch.lengths is None for batch in found)
    predicted = sum(int((batch.targets > 0).sum()) for batch in found)
    assert count - rows < predicted <= count


@given(count=st.integers(5, 100), window=st.integers(1, 5))
def test_independent_windows_are_whole_and_spread(count, window):
    loader = WindowLoader(Numbers(count), 1, window=window, batch_size=3, max_tokens=7 * window)
    found = list(loader)
    assert len(found) == len(loader)
    starts = torch.cat([batch.inputs[:, 0] for batch in found])
    assert int(starts[0]) == 1
    for batch in found:
        assert torch.equal(batch.inputs + 1, batch.targets)
        assert batch.inputs.shape[1] == window
    assert len(starts) == min(7, count // window)
