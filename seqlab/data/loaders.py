"""Batch loaders of encoded and generated examples; an epoch can be resumed at any batch."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seqlab.contracts import Batch, Ragged, StatefulTask, Task
from seqlab.contracts.batch import NARROW
from seqlab.contracts.task import is_fresh, sample_weights
from seqlab.distributed.signals import SIGNALS, blocked_signals
from seqlab.errors import check_range

_GENERATED_TOGETHER = 1024
"""Minimum number of examples to generate at once: of a few, the overhead of the operators is most of the time."""


@final
@dataclass(frozen=True)
class Shard:
    """Rows of every batch that one process reads: each ``world``-th row from row ``rank`` on.

    Where a batch has fewer rows than there are processes, a process without a row reads the first one with weight 0.
    """

    rank: int = 0
    world: int = 1

    def take(self, rows: Tensor) -> Tensor:
        """Return the rows of this process."""
        own = rows[self.rank :: self.world]
        return own if len(own) else rows[:1]

    def weight(self, rows: int) -> float:
        """Return the number of this process's rows, relative to the mean over all processes."""
        return max(0, -(-(rows - self.rank) // self.world)) * self.world / rows


def widened(batch: Batch) -> Batch:
    """Return a batch with token ids in int64."""
    return batch._replace(inputs=batch.inputs.long()) if batch.inputs.dtype in NARROW else batch


class LoaderOptions(TypedDict, total=False):
    """Options of every loader."""

    seed: int  # of all epochs
    overfit_batches: int  # if not 0, every epoch consists of the first so many batches of epoch 0
    workers: int  # processes that build batches ahead; 0 builds them in this process
    shard: Shard | None  # rows of each batch that this process reads
    narrow_tokens: bool  # whether token ids may stay uint8 or int16 (Model.narrow_tokens)
    weigh_steps: bool  # whether the weight of a shard is its share of the time steps instead of the rows


class BatchLoader(ABC):
    """Loader of batches, built here or by worker processes.

    Attributes:
        batches: in a whole epoch; set by subclasses.
        rows: of the split's examples, those of the batch that was yielded last; ``None`` where there is no split.
        weight: of the batch that was yielded last, such that the weighted mean over all processes is the mean over the
            whole batch: 1 where all processes read as much of it, 0 where this process reads nothing of it.

    Args:
        batch_size: rows of a batch, at most.
        options: see :class:`LoaderOptions`.

    Raises:
        ValueError: a size is not positive, or ``workers`` is negative.
    """

    batches: int
    rows: Tensor | None = None
    batch_sampler = None  # Lightning asks every loader that has a sampler for this one, too

    def __init__(self, batch_size: int, **options: Unpack[LoaderOptions]) -> None:
        check_range("batch_size", batch_size, 1)
        self.workers = options.get("workers", 0)
        check_range("workers", self.workers, 0)
        self.batch_size, self.seed = batch_size, options.get("seed", 0)
        self.overfit_batches, self.weigh_steps = options.get("overfit_batches", 0), options.get("weigh_steps", False)
        self.narrow_tokens = options.get("narrow_tokens", False)
        self.shard, self.weight, self.epoch = options.get("shard") or Shard(), 1.0, 0
        self._done, self._start = 0, 0

    @abstractmethod
    def plan(self) -> Sequence[Any]:
        """Return one item for each batch of this epoch, from which :meth:`build` makes the batch."""

    @abstractmethod
    def build(self, item: Any) -> Batch:
        """Build this process's shard of a batch."""

    @abstractmethod
    def shard_weight(self, item: Any) -> float:
        """Return the :attr:`weight` of this process's shard of a batch."""

    def row_indices(self, item: Any) -> Tensor | None:
        """Return the :attr:`rows` of this process's shard of a batch."""
        return None

    def __len__(self) -> int:
        """Return the number of batches of an epoch, the same for all epochs."""
        return min(self.overfit_batches, self.batches) if self.overfit_batches else self.batches

    @property
    def sampler(self) -> "BatchLoader":
        """The loader: Lightning calls ``set_epoch`` of a loader's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order, or the examples, of this epoch."""
        self.epoch = 0 if self.overfit_batches else epoch

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch, from the loaded position on."""
        self._done, self._start = self._start, 0
        items = self.plan()[: len(self)][self._done :]
        batches = map(self.build, items) if not self.workers else self._build_ahead(items)
        for item, batch in zip(items, batches, strict=True):
            self._done += 1
            self.weight = 1.0 if self.shard.world == 1 else self.shard_weight(item)
            self.rows = self.row_indices(item)
            yield batch if self.narrow_tokens else widened(batch)

    def _build_ahead(self, items: Sequence[Any]) -> Iterator[Batch]:
        loader = DataLoader(
            _Items(self, items),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_identity,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # else it draws from the generator of dropout
        )
        with blocked_signals():  # a worker that is just starting would die of a signal
            return iter(loader)

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches of this epoch that were yielded."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch after that many batches."""
        self._start = state["done"]


@final
class _Items(Dataset[Batch]):
    """Batches of a plan by index."""

    def __init__(self, loader: BatchLoader, items: Sequence[Any]) -> None:
        self.loader, self.items = loader, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Batch:
        return self.loader.build(self.items[index])


def _ignore_signals(_: int) -> None:
    """Ignore the signals that a scheduler sends to every process of a job; the main process handles them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _identity(batch: Any) -> Any:
    return batch


class ExampleLoader(BatchLoader):
    """Loader of padded batches of examples; the last batch of an epoch may be smaller."""

    def __init__(self, examples: int, batch_size: int, **options: Unpack[LoaderOptions]) -> None:
        super().__init__(batch_size, **options)
        self.examples, self.batches = examples, -(-examples // batch_size)

    @abstractmethod
    def batch_rows(self, item: Any) -> tuple[Ragged, Tensor, Tensor]:
        """Return inputs, targets, and the indices of the rows of both that make a batch."""

    def build(self, item: Any) -> Batch:
        """Pad this process's rows of a batch."""
        inputs, targets, rows = self.batch_rows(item)
        own = self.shard.take(rows)
        values, lengths = inputs.padded(own)
        return Batch(values, lengths, targets[own])

    def shard_weight(self, item: Any) -> float:
        """Return the share of the batch's rows, or of their steps, times the number of processes."""
        inputs, _, rows = self.batch_rows(item)
        weight, lengths = self.shard.weight(len(rows)), inputs.lengths
        if not self.weigh_steps or not weight:
            return weight
        return float(lengths[self.shard.take(rows)].sum() * self.shard.world / lengths[rows].sum())


class SplitLoader(ExampleLoader):
    """Loader of a split; the plan holds the row indices of each batch."""

    inputs: Ragged
    targets: Tensor

    def batch_rows(self, item: Tensor) -> tuple[Ragged, Tensor, Tensor]:
        """Return the split and the batch's rows of it."""
        return self.inputs, self.targets, item

    def row_indices(self, item: Tensor) -> Tensor:
        """Return the batch's rows that this process reads."""
        return self.shard.take(item)


@final
class BucketLoader(SplitLoader):
    """Loader of batches of similar lengths; a training loader shuffles in each epoch.

    Examples are shuffled, sorted by length within groups of ``bucket`` batches, divided into batches, and the batches
    shuffled: little padding, and an order that depends on seed and epoch alone.

    Args:
        inputs: the encoded examples.
        targets: one for each example.
        batch_size: examples a batch; the last one of an epoch may be smaller.
        shuffle: whether this is for training; otherwise batches are sorted by length.
        bucket: batches in a group that is sorted by length; 1 does not sort.
        weights: draw the examples of an epoch with these weights, with replacement, instead of taking each once.
    """

    def __init__(
        self,
        inputs: Ragged,
        targets: Tensor,
        *,
        batch_size: int,
        shuffle: bool,
        bucket: int = 100,
        weights: Tensor | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        check_range("bucket", bucket, 1)
        super().__init__(len(inputs), batch_size, **options)
        self.inputs, self.targets, self.weights = inputs, targets, weights
        self.shuffle, self.bucket = shuffle, bucket

    def plan(self) -> list[Tensor]:
        """Return the row indices of each batch of this epoch."""
        lengths = self.inputs.lengths
        if not self.shuffle:
            return list(torch.split(lengths.argsort(stable=True), self.batch_size))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is None:
            order = torch.randperm(len(lengths), generator=generator)
        else:
            order = torch.multinomial(self.weights, len(lengths), replacement=True, generator=generator)
        if self.bucket > 1:
            groups = torch.split(order, self.batch_size * self.bucket)
            order = torch.cat([group[lengths[group].argsort(stable=True)] for group in groups])
        batches = torch.split(order, self.batch_size)
        return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


@final
class ContiguousLoader(SplitLoader):
    """Loader that divides ordered examples into contiguous streams, so that state can be carried along each of them.

    Row r of a batch continues row r of the batch before. All batches have the same number of rows. The order is the
    same in every epoch.

    Args:
        inputs: the encoded examples, in the order in which the state is carried.
        targets: one for each example.
        batch_size: streams, at most.
        drop_last: read ``batch_size`` streams and leave out the last examples (fewer than one batch) that do not fill
            all rows; otherwise read the largest number of streams that divides the examples evenly.
    """

    def __init__(
        self, inputs: Ragged, targets: Tensor, *, batch_size: int, drop_last: bool, **options: Unpack[LoaderOptions]
    ) -> None:
        check_range("batch_size", batch_size, 1)
        count = len(inputs)
        streams = min(batch_size, count) or 1
        if not drop_last:
            streams = next(size for size in range(streams, 0, -1) if count % size == 0)
        self.streams, self.stream_length = streams, count // streams
        super().__init__(streams * self.stream_length, streams, **options)
        self.inputs, self.targets = inputs, targets

    def plan(self) -> list[Tensor]:
        """Return the index of the next example of every stream, for each batch."""
        starts = torch.arange(self.streams) * self.stream_length
        return [starts + step for step in range(len(self))]


@final
class GeneratedLoader(ExampleLoader):
    """Loader of training batches that are generated during training, each with another seed.

    A batch depends on seed, epoch and its index in the epoch alone, so that an epoch can be resumed anywhere. Every
    process generates the same whole batch, of which it keeps its shard.

    Args:
        draw: returns so many examples, given a count and a seed.
        examples: of an epoch.
        batch_size: examples a batch; the last one of an epoch may be smaller.
        block_size: minimum number of examples to generate at once.
    """

    def __init__(
        self,
        draw: Callable[[int, int], tuple[Ragged, Tensor]],
        *,
        examples: int,
        batch_size: int,
        block_size: int = _GENERATED_TOGETHER,
        **options: Unpack[LoaderOptions],
    ) -> None:
        check_range("examples", examples, 1)
        super().__init__(examples, batch_size, **options)
        self.draw = draw
        self._batches_together = max(1, block_size // batch_size)
        self._block: tuple[tuple[int, int], Ragged, Tensor] | None = None

    def plan(self) -> range:
        """Return the indices of the batches."""
        return range(self.batches)

    def build(self, item: int) -> Batch:
        """Return a slice of the generated block, without a copy if there is neither padding nor sharding."""
        inputs, targets, own = self._slice(item)
        if inputs.even is None or self.shard.world > 1:
            return super().build(item)
        return Batch(inputs.even[own], None, targets[own])

    def batch_rows(self, item: int) -> tuple[Ragged, Tensor, Tensor]:
        """Return the block of examples that holds this batch, and the batch's rows."""
        inputs, targets, own = self._slice(item)
        return inputs, targets, torch.arange(own.start, min(own.stop, len(inputs)))

    def _slice(self, item: int) -> tuple[Ragged, Tensor, slice]:
        """Return the block of examples that holds this batch, generated if it is another one, and its slice."""
        number, place = divmod(item, self._batches_together)
        if self._block is None or self._block[0] != (self.epoch, number):
            size = self._batches_together * self.batch_size
            count = min(size, self.examples - number * size)
            seed = np.random.SeedSequence((self.seed, self.epoch, number)).generate_state(1, np.uint32)[0]
            self._block = (self.epoch, number), *self.draw(count, int(seed))
        _, inputs, targets = self._block
        return inputs, targets, slice(place * self.batch_size, (place + 1) * self.batch_size)


def check_carried_state(task: Task, sizes: Mapping[str, int], batch_size: int, eval_batch_size: int) -> None:
    """Check that batches can continue one another, if the task carries state.

    Args:
        task: whose examples are loaded.
        sizes: examples of each split.
        batch_size: rows of a training batch.
        eval_batch_size: rows of any other batch.

    Raises:
        ValueError: training examples are generated or drawn by weight, or one batch holds more than half a split.
    """
    if not isinstance(task, StatefulTask):
        return
    if is_fresh(task):
        raise ValueError("a StatefulTask needs examples in order, but fresh generates new ones; set fresh to False")
    if sample_weights(task) is not None:
        raise ValueError(
            "a StatefulTask needs examples in order, but sample_weights draws them at random; return None from it"
        )
    for name, size in sizes.items():
        key, rows = ("batch_size", batch_size) if name == "train" else ("eval_batch_size", eval_batch_size)
        if rows > size // 2:
            raise ValueError(
                f"data.{key} must be <= {size // 2 or 1}, got {rows}: a StatefulTask needs two batches or more, and "
                f"{name} has {size} examples; 1 reads a split in order, and so does data=text"
            )
