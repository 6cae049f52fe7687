"""Batches of like lengths, taken out of tensors without touching single examples."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seqlab.contracts import Batch, Ragged
from seqlab.distributed.signals import SIGNALS, blocked_signals
from seqlab.errors import check_range


@final
@dataclass(frozen=True)
class Share:
    """Which part of every batch a process takes: each ``world``-th row, from row ``rank`` on.

    A batch with fewer rows than processes leaves some of them idle: those cut its first row, which counts for nothing.
    """

    rank: int = 0
    world: int = 1

    def of(self, rows: Tensor) -> Tensor:
        """Choose the rows that this process takes."""
        own = rows[self.rank :: self.world]
        return own if len(own) else rows[:1]

    def weight(self, rows: int) -> float:
        """Compare this process' part of a batch of so many rows with the mean part."""
        return max(0, -(-(rows - self.rank) // self.world)) * self.world / rows


class BatchLoader(ABC):
    """An epoch's batches, cut here or by worker processes; an epoch can begin where an earlier one was left.

    Attributes:
        weight: of the batch that was given out last, for the mean over all processes to be that of the whole batch:
            1 where all take as much of it, 0 where this one is idle.

    Args:
        workers: processes that cut batches ahead; 0 cuts them in this one.
        share: which part of each batch to cut.

    Raises:
        ValueError: there are fewer workers than none.
    """

    batch_sampler = None  # Lightning asks every loader that has a sampler for this one too

    def __init__(self, workers: int = 0, share: Share | None = None) -> None:
        check_range(at_least=0, workers=workers)
        self.workers, self.done, self._begin = workers, 0, 0
        self.share, self.weight = share or Share(), 1.0

    @abstractmethod
    def plan(self) -> Sequence[Any]:
        """Say what each batch of this epoch is cut from."""

    @abstractmethod
    def cut(self, item: Any) -> Batch:
        """Cut this process' share of a batch from an item of the plan."""

    @abstractmethod
    def weigh(self, item: Any) -> float:
        """Say how much of the batch the share is, times the number of processes."""

    def __iter__(self) -> Iterator[Batch]:
        """Cut the batches of this epoch, from the place that was loaded or else from the first one on."""
        self.done, self._begin = self._begin, 0
        items = self.plan()[self.done :]
        cut = map(self.cut, items) if not self.workers else self._cut_ahead(items)
        for item, batch in zip(items, cut, strict=True):
            self.done += 1
            self.weight = 1.0 if self.share.world == 1 else self.weigh(item)
            yield batch

    def _cut_ahead(self, items: Sequence[Any]) -> Iterator[Batch]:
        loader = DataLoader(
            _Cuts(self, items),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # else it draws from the generator of dropout
        )
        with blocked_signals():  # a worker that is just starting would die of a signal
            return iter(loader)

    def state_dict(self) -> dict[str, int]:
        """Say how many batches of the epoch were given out."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next epoch begin behind so many batches."""
        self._begin = state["done"]


@final
class _Cuts(Dataset[Batch]):
    """The batches of a plan, by number."""

    def __init__(self, loader: BatchLoader, items: Sequence[Any]) -> None:
        self.loader, self.items = loader, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Batch:
        return self.loader.cut(self.items[index])


def _leave_signals_to_the_run(_: int) -> None:
    """A scheduler signals every process of a job, and a worker that dies of it takes the run with it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _as_it_is(batch: Any) -> Any:
    return batch


class ExampleLoader(BatchLoader):
    """Padded batches of examples, in an order or of a choice that is another one in each epoch.

    Args:
        examples: of an epoch.
        batch_size: examples a batch; the last one of an epoch may be smaller.
        seed: of all epochs.
        by_heart: if not 0, every epoch is the first so many batches of the first epoch.
        workers: processes that cut batches ahead.
        share: which part of each batch to cut.
        by_steps: whether a share is weighed by its time steps instead of its rows.

    Raises:
        ValueError: a batch has no example, or there are fewer workers than none.
    """

    def __init__(
        self,
        examples: int,
        *,
        batch_size: int,
        seed: int,
        by_heart: int,
        workers: int,
        share: Share | None,
        by_steps: bool,
    ) -> None:
        check_range(at_least=1, batch_size=batch_size)
        super().__init__(workers, share)
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.by_heart, self.by_steps, self.epoch = by_heart, by_steps, 0

    @abstractmethod
    def rows(self, item: Any) -> tuple[Ragged, Tensor, Tensor]:
        """Find a batch: inputs and targets, and which of them are its rows."""

    def __len__(self) -> int:
        """Batches in an epoch: the same in every epoch."""
        batches = -(-self.examples // self.batch_size)
        return min(self.by_heart, batches) if self.by_heart else batches

    @property
    def sampler(self) -> "ExampleLoader":
        """Lightning tells the epoch to a loader's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order, or the examples, of this epoch."""
        self.epoch = 0 if self.by_heart else epoch

    def cut(self, item: Any) -> Batch:
        """Pad this process' rows of a batch."""
        inputs, targets, rows = self.rows(item)
        own = self.share.of(rows)
        values, lengths = inputs.padded(own)
        return Batch(values, lengths, targets[own])

    def weigh(self, item: Any) -> float:
        """Compare the rows, or their steps, with those of the batch."""
        inputs, _, rows = self.rows(item)
        weight, lengths = self.share.weight(len(rows)), inputs.lengths
        if not self.by_steps or not weight:
            return weight
        return float(lengths[self.share.of(rows)].sum() * self.share.world / lengths[rows].sum())


@final
class BucketLoader(ExampleLoader):
    """Padded batches of a split; a training loader shuffles anew in each epoch.

    Examples are shuffled, sorted by length within groups of ``bucket`` batches, cut into batches, and the batches
    shuffled: little padding, and an order that depends on seed and epoch alone, so that an epoch can be repeated.

    Args:
        inputs: the encoded examples.
        targets: one for each example.
        batch_size: examples a batch; the last one of an epoch may be smaller.
        shuffle: whether this is for training; otherwise batches come sorted by length.
        seed: of the order.
        bucket: batches in a group that is sorted by length; 1 leaves the order to chance alone.
        weights: draw the examples of an epoch with these weights, with replacement, instead of taking each once.
        by_heart: if not 0, every epoch is the first so many batches of the first epoch.
        workers: processes that cut batches ahead.
        share: which part of each batch to cut; each process takes rows of like lengths.
        by_steps: whether a share is weighed by its time steps instead of its rows.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(
        self,
        inputs: Ragged,
        targets: Tensor,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        bucket: int = 100,
        weights: Tensor | None = None,
        by_heart: int = 0,
        workers: int = 0,
        share: Share | None = None,
        by_steps: bool = False,
    ) -> None:
        check_range(at_least=1, bucket=bucket)
        settings = {"batch_size": batch_size, "seed": seed, "by_heart": by_heart, "workers": workers}
        super().__init__(len(inputs), **settings, share=share, by_steps=by_steps)
        self.inputs, self.targets, self.weights = inputs, targets, weights
        self.shuffle, self.bucket = shuffle, bucket

    def plan(self) -> list[Tensor]:
        """Decide which rows make which batch in this epoch."""
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
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[index] for index in shuffled[: len(self)]]

    def rows(self, item: Tensor) -> tuple[Ragged, Tensor, Tensor]:
        """Give the split, of which a batch is some rows."""
        return self.inputs, self.targets, item
