"""Large pieces of memory that are used again.

What a long sequence keeps for its backward pass is tens of megabytes, which the allocator gives back to the system
after every step and asks for again: each page is then filled with zeros anew, and found by a fault. On short steps that
was near half of the time. Pieces from here are kept, and lie on huge pages where the system has them.
"""

import contextlib
import ctypes
import math
import mmap
import os
import threading
import weakref
from bisect import bisect_left, insort
from collections.abc import Sequence

import torch
from torch import Tensor

LARGE = 1 << 20
"""Bytes from which on the allocator's own way is the slower one."""
MOST = 1 << 30
"""Bytes that are kept for later at most."""


class Pool:
    """Pieces of memory that nobody uses at the moment."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a piece may come back in the middle of another call: by garbage collection
        self._free: list[tuple[int, int]] = []
        self._pieces: dict[int, mmap.mmap] = {}
        self._next = 0
        self._process = os.getpid()

    @property
    def held(self) -> int:
        """Bytes kept for later."""
        return sum(size for size, _ in self._free)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Make a tensor of any content, as :func:`torch.empty` does; its memory comes back when it dies."""
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size < LARGE:
            return torch.empty(shape, dtype=dtype)
        size = -(-size // LARGE) * LARGE
        key, piece = self._take(size)
        lease = (ctypes.c_char * len(piece)).from_buffer(piece)
        weakref.finalize(lease, self._give_back, key, piece).atexit = False
        return torch.frombuffer(lease, dtype=dtype, count=count).view(shape)

    def _take(self, size: int) -> tuple[int, mmap.mmap]:
        with self._lock:
            if os.getpid() != self._process:  # a fork's copies are its parent's pages
                self._free, self._pieces, self._process = [], {}, os.getpid()
            at = bisect_left(self._free, (size, -1))
            if at < len(self._free) and self._free[at][0] <= 2 * size:
                _, key = self._free.pop(at)
                return key, self._pieces.pop(key)
            self._next += 1
            key = self._next
        piece = mmap.mmap(-1, size)
        with contextlib.suppress(OSError, AttributeError, ValueError):
            piece.madvise(mmap.MADV_HUGEPAGE)
        return key, piece

    def _give_back(self, key: int, piece: mmap.mmap) -> None:
        with self._lock:
            if os.getpid() == self._process and self.held + len(piece) <= MOST:
                self._pieces[key] = piece
                insort(self._free, (len(piece), key))


POOL = Pool()
