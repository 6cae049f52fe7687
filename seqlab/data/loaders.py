"""Loaders of generated examples, and of examples that carry the state from batch to batch."""

from collections.abc import Callable, Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor

from seqlab.contracts import Batch, Ragged, StatefulTask, Task
from seqlab.contracts.task import is_fresh, sample_weights
from seqlab.data.loader import ExampleLoader, Share
from seqlab.errors import check_range

_DRAWN_AT_ONCE = 1024
"""Examples that are drawn together, at least: of a few the operators' own cost is most of the time."""


@final
class GeneratedLoader(ExampleLoader):
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
        check_range(at_least=1, examples=examples)
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


@final
class CarriedLoader(ExampleLoader):
    """Cuts a split of ordered examples into contiguous streams; row r of a batch continues row r of the one before it.

    All batches have the same number of rows, so that the state fits. Training reads ``batch_size`` streams and leaves
    out the last examples, fewer than one batch, that do not fill all rows. Evaluation counts every example once: it
    reads as many streams as divide the split evenly, ``batch_size`` at most. The order is the same in every epoch.

    Args:
        inputs: the encoded examples, in the order in which the state is carried.
        targets: one for each example.
        batch_size: rows of a batch, at most.
        training: whether a few examples may be left out.
        by_heart: if not 0, every epoch is the first so many batches.
        workers: processes that cut batches ahead.
        share: which of the streams this process reads.
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
        training: bool,
        by_heart: int = 0,
        workers: int = 0,
        share: Share | None = None,
        by_steps: bool = False,
    ) -> None:
        check_range(at_least=1, batch_size=batch_size)
        count = len(inputs)
        streams = min(batch_size, count) or 1
        if not training:
            streams = next(size for size in range(streams, 0, -1) if count % size == 0)
        self.streams, self.each = streams, count // streams
        settings = {"batch_size": streams, "seed": 0, "by_heart": by_heart, "workers": workers}
        super().__init__(streams * self.each, **settings, share=share, by_steps=by_steps)
        self.inputs, self.targets = inputs, targets

    def plan(self) -> list[Tensor]:
        """Take the next example of every stream for each batch."""
        starts = torch.arange(self.streams) * self.each
        return [starts + step for step in range(len(self))]

    def rows(self, item: Tensor) -> tuple[Ragged, Tensor, Tensor]:
        """Give the split, of which a batch is some rows."""
        return self.inputs, self.targets, item


def check_order(task: Task, sizes: Mapping[str, int], batch_size: int, eval_batch_size: int) -> None:
    """Refuse what leaves no batch that continues another one.

    Args:
        task: nothing is checked unless it is a :class:`.StatefulTask`.
        sizes: examples of each split.
        batch_size: rows of a training batch.
        eval_batch_size: rows of any other batch.

    Raises:
        ValueError: training examples are drawn anew or by weight, or a batch holds a whole split.
    """
    if not isinstance(task, StatefulTask):
        return
    if is_fresh(task):
        raise ValueError("a StatefulTask needs examples in order, but fresh draws new ones; set fresh to False")
    if sample_weights(task) is not None:
        raise ValueError(
            "a StatefulTask needs examples in order, but sample_weights draws them at random; return None from it"
        )
    for name, size in sizes.items():
        key, rows = ("batch_size", batch_size) if name == "train" else ("eval_batch_size", eval_batch_size)
        if rows > size // 2:
            raise ValueError(
                f"StatefulTask: data.{key} is {rows}, and {name} has {size} examples, so that no batch continues "
                f"another; set data.{key} to {size // 2 or 1} at most (1 reads a split from its beginning to its end), "
                'or presets={"data": "text"} in the task'
            )
