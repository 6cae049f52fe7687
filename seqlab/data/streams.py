"""Batch loaders of running text: contiguous streams, and windows read independently."""

from typing import Unpack, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqlab.contracts import Batch
from seqlab.data.loaders import BatchLoader, LoaderOptions
from seqlab.data.tokens import TokenFile
from seqlab.errors import check_range

_READ_AHEAD = 2**16
"""Minimum number of tokens, over all rows, to read from the file at once."""


@final
class StreamLoader(BatchLoader):
    """Loader that divides a text into contiguous streams, one a row, and the streams into windows.

    At position :math:`p` of the text the input is token :math:`p - 1` and the target token :math:`p`; the first input
    is ``begin``. Every token is a target exactly once, unless ``drop_last``. Padding is 0 in inputs and targets.

    Args:
        tokens: the text.
        begin: input before the first token.
        batch_size: streams, at most; fewer if they would be shorter than a window.
        window: time steps of a batch; the last one of an epoch may have fewer.
        drop_last: leave out the last tokens (fewer than the streams) that do not fill all rows.
    """

    def __init__(
        self,
        tokens: TokenFile,
        begin: int,
        *,
        batch_size: int,
        window: int,
        drop_last: bool = False,
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(batch_size, **options)
        check_range("window", window, 1)
        streams = min(batch_size, max(1, len(tokens) // window))
        self.tokens, self.begin, self.window = tokens, begin, window
        length, longer = divmod(len(tokens), streams)
        lengths = np.full(streams, length, np.int64)
        if not drop_last:
            lengths[:longer] += 1
        self.steps, self._weight = int(lengths[0]), self.shard.weight(streams)
        self.batches = -(-self.steps // window)
        own = self.shard.take(torch.arange(streams)).numpy()
        self.lengths, self.starts = lengths[own], (np.cumsum(lengths) - lengths)[own]
        self._block_steps = window * max(1, _READ_AHEAD // (window * len(own)))
        self._block: tuple[int, NDArray[np.int64]] | None = None

    def plan(self) -> range:
        """Return the indices of the windows."""
        return range(self.batches)

    def build(self, item: int) -> Batch:
        """Return a window of all streams."""
        begin = item * self.window
        start = begin - begin % self._block_steps
        if self._block is None or self._block[0] != start:
            self._block = start, self._read(start, self._block_steps)
        steps = min(self.window, self.steps - begin)
        rows = torch.from_numpy(self._block[1][:, begin - start :][:, : steps + 1].copy())
        inputs, targets = rows[:, :-1], rows[:, 1:]
        lengths = torch.from_numpy(np.clip(self.lengths - begin, 0, self.window))
        if bool((lengths == steps).all()):
            return Batch(inputs.contiguous(), None, targets.contiguous())
        padding = torch.arange(steps) >= lengths.unsqueeze(1)
        return Batch(inputs.masked_fill(padding, 0), lengths, targets.masked_fill(padding, 0))

    def shard_weight(self, item: int) -> float:
        """Return the share of the streams, times the number of processes."""
        return self._weight

    def _read(self, begin: int, count: int) -> NDArray[np.int64]:
        """Return ``[streams, count + 1]`` tokens from the one before ``begin`` on, 0 beyond the end of a stream."""
        block = np.zeros((len(self.starts), count + 1), np.int64)
        for row, (start, length) in enumerate(zip(self.starts.tolist(), self.lengths.tolist(), strict=True)):
            first = start + begin - 1
            missing = int(first < 0)
            found = self.tokens.read(first + missing, min(count, length - begin) + 1 - missing)
            block[row, missing : missing + len(found)] = found
            if missing:
                block[row, 0] = self.begin
        return block


@final
class WindowLoader(BatchLoader):
    """Loader of windows that are read independently, spaced evenly over the text: for the loss by position in context.

    Args:
        tokens: the text.
        begin: input before the first token.
        batch_size: windows a batch.
        window: time steps of a window.
        max_tokens: in all windows, so that the cost does not depend on ``window``.
    """

    def __init__(
        self,
        tokens: TokenFile,
        begin: int,
        *,
        batch_size: int,
        window: int,
        max_tokens: int = 50_000,
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(batch_size, **options)
        self.tokens, self.begin, self.window = tokens, begin, window
        count = min(max(1, max_tokens // window), len(tokens) // window)
        self.starts = torch.from_numpy(np.linspace(0, len(tokens) - window, count).astype(np.int64))
        self.batches = -(-count // batch_size)

    def plan(self) -> tuple[Tensor, ...]:
        """Return the starts of the windows of each batch."""
        return torch.split(self.starts, self.batch_size)

    def build(self, item: Tensor) -> Batch:
        """Read the windows that start there."""
        rows = np.stack([self._read(start) for start in self.shard.take(item).tolist()])
        block = torch.from_numpy(rows)
        return Batch(block[:, :-1].contiguous(), None, block[:, 1:].contiguous())

    def shard_weight(self, item: Tensor) -> float:
        """Return the share of the batch's windows, times the number of processes."""
        return self.shard.weight(len(item))

    def _read(self, start: int) -> NDArray[np.int64]:
        if start:
            return self.tokens.read(start - 1, self.window + 1)
        return np.concatenate([np.array([self.begin]), self.tokens.read(0, self.window)])
