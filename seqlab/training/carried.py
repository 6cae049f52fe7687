"""Batches of examples that follow on one another, for a task that carries state."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from seqlab.contracts import Ragged, Task
from seqlab.training.loader import ExampleLoader, Share


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
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
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
        task: nothing is checked unless it carries state.
        sizes: examples of each split.
        batch_size: rows of a training batch.
        eval_batch_size: rows of any other batch.

    Raises:
        ValueError: training examples are drawn anew or by weight, or a batch holds a whole split.
    """
    if not task.carries_state:
        return
    if task.fresh:
        raise ValueError("carries_state needs examples in order, but fresh draws new ones; set one of the two to False")
    if task.sample_weights() is not None:
        raise ValueError(
            "carries_state needs examples in order, but sample_weights draws them at random; return None from it, or "
            "set carries_state to False"
        )
    for name, size in sizes.items():
        key, rows = ("batch_size", batch_size) if name == "train" else ("eval_batch_size", eval_batch_size)
        if rows > size // 2:
            raise ValueError(
                f"carries_state: data.{key} is {rows}, and {name} has {size} examples, so that no batch continues "
                f"another; set data.{key} to {size // 2 or 1} at most (1 reads a split from its beginning to its end), "
                'or presets = {"data": "text"} in the task'
            )
