"""Training batches that are drawn as training goes on."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor

from seqlab.contracts import Batch, Ragged
from seqlab.training.loader import ExampleLoader, Share

_DRAWN_AT_ONCE = 1024
"""Examples that are drawn together, at least: of a few the operators' own cost is most of the time."""


@final
class FreshLoader(ExampleLoader):
    """Training batches that are drawn as training goes on, some together, each time by another seed.

    A batch depends on seed, epoch and its place in the epoch alone: an epoch can be left and begun again anywhere, and
    every process draws the same whole batch, of which it keeps its share.

    Args:
        draw: makes so many examples from a seed.
        examples: of an epoch.
        batch_size: examples a batch; the last one of an epoch may be smaller.
        seed: of all batches.
        by_heart: if not 0, every epoch is the first so many batches of the first epoch.
        workers: processes that draw batches ahead.
        share: which part of each batch to keep.
        by_steps: whether a share is weighed by its time steps instead of its rows.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(
        self,
        draw: Callable[[int, int], tuple[Ragged, Tensor]],
        *,
        examples: int,
        batch_size: int,
        seed: int = 0,
        by_heart: int = 0,
        workers: int = 0,
        share: Share | None = None,
        by_steps: bool = False,
    ) -> None:
        if examples < 1:
            raise ValueError(f"examples is {examples}; it must be at least 1")
        settings = {"batch_size": batch_size, "seed": seed, "by_heart": by_heart, "workers": workers}
        super().__init__(examples, **settings, share=share, by_steps=by_steps)
        self.draw = draw
        self._together = max(1, _DRAWN_AT_ONCE // batch_size)
        self._block: tuple[tuple[int, int], Ragged, Tensor] | None = None

    def plan(self) -> range:
        """Number the batches."""
        return range(len(self))

    def cut(self, item: int) -> Batch:
        """Take a batch out of what is drawn together: where nothing is padded or shared out, without copying it."""
        inputs, targets, rows = self.rows(item)
        if inputs.even is None or self.share.world > 1:
            return super().cut(item)
        begin = int(rows[0])
        own = slice(begin, begin + len(rows))
        return Batch(inputs.even[own], None, targets[own])

    def rows(self, item: int) -> tuple[Ragged, Tensor, Tensor]:
        """Draw the batches that are drawn together with this one, unless they are; say which rows are its own."""
        number, place = divmod(item, self._together)
        if self._block is None or self._block[0] != (self.epoch, number):
            size = self._together * self.batch_size
            count = min(size, self.examples - number * size)
            self._block = (self.epoch, number), *self.draw(count, _mixed(self.seed, self.epoch, number))
        _, inputs, targets = self._block
        begin = place * self.batch_size
        return inputs, targets, torch.arange(begin, min(begin + self.batch_size, len(inputs)))


def _mixed(*numbers: int) -> int:
    """Make one seed of several numbers, so that no two of them can stand in for each other."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
