"""Batches of running text: each row goes on where it ended in the batch before."""

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqlab.contracts import Batch
from seqlab.data.loader import BatchLoader, Share
from seqlab.data.tokens import Tokens
from seqlab.errors import check_range

_READ_AHEAD = 2**16
"""Tokens of all rows that are read from the file at once, at least."""


@final
class StreamLoader(BatchLoader):
    """Cuts a text into contiguous streams, one a row, and the streams into windows.

    Position :math:`p` of the text has token :math:`p - 1` as its input and token :math:`p` as its target; before the
    first one stands ``begin``. Every token is a target exactly once, unless ``even`` leaves out the last few so that
    all rows have the same length. Padding is 0 in inputs and targets.

    Args:
        tokens: the text.
        begin: the token id that is read before the first one.
        streams: rows of a batch.
        window: time steps of a batch; the last one of an epoch may have fewer.
        even: whether to leave out what does not fill all rows (fewer than ``streams`` tokens).
        limit: if not 0, every epoch is the first so many batches.
        workers: processes that cut batches ahead.
        share: which of the streams this process reads.

    Raises:
        ValueError: a size is not positive.
    """

    sampler = None

    def __init__(
        self,
        tokens: Tokens,
        begin: int,
        *,
        streams: int,
        window: int,
        even: bool = False,
        limit: int = 0,
        workers: int = 0,
        share: Share | None = None,
    ) -> None:
        super().__init__(workers, share)
        check_range(at_least=1, streams=streams, window=window)
        streams = min(streams, max(1, len(tokens) // window))  # no row shorter than a window
        self.tokens, self.begin, self.streams, self.window, self.limit = tokens, begin, streams, window, limit
        short, longer = divmod(len(tokens), streams)
        self.lengths = np.full(streams, short, np.int64)
        if not even:
            self.lengths[:longer] += 1
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.steps, self._weight = int(self.lengths[0]), self.share.weight(streams)
        mine = self.share.of(torch.arange(streams)).numpy()
        self.lengths, self.starts, self.streams = self.lengths[mine], self.starts[mine], len(mine)
        self._at_once = self.window * max(1, _READ_AHEAD // (self.window * self.streams))
        self._block: NDArray[np.int64] | None = None
        self._ahead = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        batches = -(-self.steps // self.window)
        return min(self.limit, batches) if self.limit else batches

    def plan(self) -> range:
        """Number the windows."""
        return range(len(self))

    def cut(self, item: int) -> Batch:
        """Cut a window out of all streams; they are read ahead."""
        begin = item * self.window
        ahead = begin - begin % self._at_once
        if self._block is None or self._ahead != ahead:
            self._block, self._ahead = self._read(ahead, self._at_once), ahead
        return self._batch(self._block[:, begin - ahead :][:, : self.window + 1], begin)

    def weigh(self, item: int) -> float:
        """Compare the streams with all there are."""
        return self._weight

    def _read(self, begin: int, count: int) -> NDArray[np.int64]:
        """Read the tokens of all rows from the one before ``begin`` on: ``[streams, count + 1]``, 0 past their ends."""
        block = np.zeros((self.streams, count + 1), np.int64)
        for row, (start, length) in enumerate(zip(self.starts.tolist(), self.lengths.tolist(), strict=True)):
            first = start + begin - 1
            missing = int(first < 0)
            found = self.tokens.read(first + missing, min(count, length - begin) + 1 - missing)
            block[row, missing : missing + len(found)] = found
            if missing:
                block[row, 0] = self.begin
        return block

    def _batch(self, block: NDArray[np.int64], begin: int) -> Batch:
        left = np.clip(self.lengths - begin, 0, self.window)
        steps = min(self.window, self.steps - begin)
        rows = torch.from_numpy(block[:, : steps + 1].copy())
        inputs, targets = rows[:, :-1], rows[:, 1:]
        if (left == steps).all():
            return Batch(inputs.contiguous(), None, targets.contiguous())
        lengths = torch.from_numpy(left)
        dead = torch.arange(steps) >= lengths.unsqueeze(1)
        return Batch(inputs.masked_fill(dead, 0), lengths, targets.masked_fill(dead, 0))


@final
class WindowLoader(BatchLoader):
    """Windows that are read each by itself, spread evenly over the text: for the loss by position in context.

    Args:
        tokens: the text.
        begin: the token id that is read before the first one.
        window: time steps of each.
        rows: windows of a batch.
        most: tokens at most, so that the cost does not depend on the window.
        share: which of a batch's windows this process reads.
    """

    sampler = None

    def __init__(
        self,
        tokens: Tokens,
        begin: int,
        *,
        window: int,
        rows: int,
        most: int = 50_000,
        share: Share | None = None,
    ) -> None:
        super().__init__(share=share)
        self.tokens, self.begin, self.window, self.rows = tokens, begin, window, rows
        count = min(max(1, most // window), len(tokens) // window)
        self.starts = torch.from_numpy(np.linspace(0, len(tokens) - window, count).astype(np.int64))

    def __len__(self) -> int:
        """Batches."""
        return -(-len(self.starts) // self.rows)

    def plan(self) -> tuple[Tensor, ...]:
        """Divide the windows into batches."""
        return torch.split(self.starts, self.rows)

    def cut(self, item: Tensor) -> Batch:
        """Read the windows that begin there."""
        rows = np.stack([self._read(start) for start in self.share.of(item).tolist()])
        block = torch.from_numpy(rows)
        return Batch(block[:, :-1].contiguous(), None, block[:, 1:].contiguous())

    def weigh(self, item: Tensor) -> float:
        """Compare the windows with those of the batch."""
        return self.share.weight(len(item))

    def _read(self, start: int) -> NDArray[np.int64]:
        if start:
            return self.tokens.read(start - 1, self.window + 1)
        return np.concatenate([np.array([self.begin]), self.tokens.read(0, self.window)])
