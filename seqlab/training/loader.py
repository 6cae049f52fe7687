"""Batches of like lengths, taken out of tensors without touching single examples."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from seqlab.contracts import Batch, Ragged


@final
class BucketLoader:
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

    Raises:
        ValueError: a size is not positive.
    """

    batch_sampler = None  # Lightning asks every loader that has a sampler for this one too

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
    ) -> None:
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

    def __iter__(self) -> Iterator[Batch]:
        """Cut the batches of this epoch."""
        for rows in self.plan():
            inputs, lengths = self.inputs.padded(rows)
            yield Batch(inputs, lengths, self.targets[rows])
