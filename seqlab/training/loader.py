"""Batches of like lengths, taken out of tensors without touching single examples."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seqlab.contracts import Batch, Ragged
from seqlab.training.interrupt import SIGNALS


class BatchLoader(ABC):
    """An epoch's batches, cut here or by worker processes; an epoch can begin where an earlier one was left.

    Args:
        workers: processes that cut batches ahead; 0 cuts them in this one.

    Raises:
        ValueError: there are fewer than none.
    """

    batch_sampler = None  # Lightning asks every loader that has a sampler for this one too

    def __init__(self, workers: int = 0) -> None:
        if workers < 0:
            raise ValueError(f"workers is {workers}; it must be at least 0")
        self.workers, self.done, self._begin = workers, 0, 0

    @abstractmethod
    def plan(self) -> Sequence[Any]:
        """Say what each batch of this epoch is cut from."""

    @abstractmethod
    def cut(self, item: Any) -> Batch:
        """Cut a batch from an item of the plan."""

    def __iter__(self) -> Iterator[Batch]:
        """Cut the batches of this epoch, from the place that was loaded or else from the first one on."""
        self.done, self._begin = self._begin, 0
        items = self.plan()[self.done :]
        for batch in map(self.cut, items) if not self.workers else self._cut_ahead(items):
            self.done += 1
            yield batch

    def _cut_ahead(self, items: Sequence[Any]) -> Iterable[Batch]:
        return DataLoader(
            _Cuts(self, items),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # else it draws from the generator of dropout
        )

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


def _as_it_is(batch: Any) -> Any:
    return batch


@final
class BucketLoader(BatchLoader):
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
    ) -> None:
        super().__init__(workers)
        for name, value in (("batch_size", batch_size), ("bucket", bucket)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.inputs, self.targets, self.weights = inputs, targets, weights
        self.batch_size, self.shuffle, self.seed, self.bucket = batch_size, shuffle, seed, bucket
        self.by_heart, self.epoch = by_heart, 0

    def __len__(self) -> int:
        """Batches in an epoch: the same in every epoch."""
        batches = -(-len(self.inputs) // self.batch_size)
        return min(self.by_heart, batches) if self.by_heart else batches

    @property
    def sampler(self) -> "BucketLoader":
        """Lightning tells the epoch to a loader's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.epoch = 0 if self.by_heart else epoch

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

    def cut(self, item: Tensor) -> Batch:
        """Pad the rows of a batch."""
        inputs, lengths = self.inputs.padded(item)
        return Batch(inputs, lengths, self.targets[item])
