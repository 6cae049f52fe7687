"""Running text as token ids in a file: encoded once, and read in pieces."""

import json
import logging
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from torch import Tensor

from seqlab.contracts import Corpus, Preprocessor
from seqlab.io.atomic import replacing, write_json
from seqlab.io.cache import cache_path, cached_json, locked, warn_damaged

log = logging.getLogger("seqlab")

_LARGE = 2**24
"""Bytes from which on progress is worth showing."""


@final
class Tokens:
    """Token ids in a file, of which nothing stays in memory but what was asked for.

    Args:
        path: the file, written by :func:`encode`; beside it stands what is known of it.

    Raises:
        ValueError: the two do not belong together.
        OSError: they cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = json.loads(_card(path).read_text("utf-8"))
        self.dtype = np.dtype(self.facts["dtype"])
        self._file = os.open(path, os.O_RDONLY)
        if os.fstat(self._file).st_size != len(self) * self.dtype.itemsize or self._checksum() != self.facts["crc32"]:
            raise ValueError(f"{path} is damaged")

    def __len__(self) -> int:
        return int(self.facts["tokens"])

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Read ``count`` ids, or fewer at the end."""
        size = self.dtype.itemsize
        return np.frombuffer(os.pread(self._file, count * size, start * size), self.dtype).astype(np.int64)

    def all(self) -> Tensor:
        """Read all ids, in the dtype of the file."""
        return torch.from_numpy(np.fromfile(self.path, self.dtype).astype(_SIGNED[self.dtype.itemsize]))

    def _checksum(self) -> int:
        total, position = 0, 0
        while piece := os.pread(self._file, 2**22, position):
            total, position = zlib.crc32(piece, total), position + len(piece)
        return total


_SIGNED = {1: np.int16, 2: np.int32, 4: np.int32}
"""What holds all values of an unsigned integer of so many bytes, and torch can count with."""


def encode_corpus(corpus: Corpus, preprocessor: Preprocessor, pipeline: Any, split: str) -> Tokens:
    """Encode running text into the cache, or find it there.

    Args:
        corpus: the text.
        preprocessor: fitted.
        pipeline: the preprocessor's node in the config.
        split: its name, for the progress bar.

    Raises:
        ValueError, OSError: the text cannot be read, or the cache not be written.
    """
    path = cache_path("corpora", [corpus.fingerprint, pipeline, preprocessor.state_dict()], ".tokens")
    with locked(path):
        if path.exists():
            try:
                return Tokens(path)
            except (ValueError, OSError, KeyError) as error:
                warn_damaged(path, error)
        _write(corpus, preprocessor, path, split)
    return Tokens(path)


def fit_corpus(corpus: Corpus, preprocessor: Preprocessor, pipeline: Any) -> None:
    """Fit a preprocessor to running text, or take what an earlier fit of the same left in the cache."""

    def make() -> dict[str, Any]:
        with _progress("vocabulary", corpus) as advance:
            preprocessor.fit(advance(piece) for piece in corpus.pieces())
        return preprocessor.state_dict()

    cached_json("vocabularies", [corpus.fingerprint, pipeline], make, preprocessor.load_state_dict)


def begin_id(preprocessor: Preprocessor) -> int:
    """Choose what a stream reads before its first token: the end of a line, if there is a token for it."""
    found = preprocessor.encode(["\n"]).values
    return int(found[-1]) if len(found) else preprocessor.unknown_id


def _card(path: Path) -> Path:
    return path.with_suffix(".json")


def _write(corpus: Corpus, preprocessor: Preprocessor, path: Path, split: str) -> None:
    size = preprocessor.size
    dtype = np.dtype(np.uint8 if size <= 2**8 else np.uint16 if size <= 2**16 else np.uint32)
    tokens = unknown = checksum = 0
    counts = np.zeros(size, np.int64)
    try:
        with replacing(path) as temporary:
            with temporary.open("wb") as file, _progress(split, corpus) as advance:
                for piece in corpus.pieces():
                    ids = preprocessor.encode([advance(piece)]).values.numpy()
                    packed = ids.astype(dtype).tobytes()
                    checksum = zlib.crc32(packed, checksum)
                    file.write(packed)
                    tokens += len(ids)
                    unknown += int((ids == preprocessor.unknown_id).sum())
                    counts += np.bincount(ids, minlength=size)
            facts = {"tokens": tokens, "unknown": unknown, "bytes": corpus.size, "dtype": dtype.name, "crc32": checksum}
            write_json(_card(path), {**facts, "counts": counts.tolist()})
    except OSError as error:
        raise OSError(f"{path.parent} cannot be written ({error.strerror}); set SEQLAB_CACHE elsewhere") from error


@contextmanager
def _progress(what: str, corpus: Corpus) -> Iterator[Callable[[str], str]]:
    """Show how far a large text has been read: a bar in a terminal, a line every ten seconds elsewhere."""
    if corpus.size < _LARGE:
        yield lambda piece: piece
    elif sys.stderr.isatty():
        columns = TextColumn("{task.description}"), BarColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task(what, total=corpus.size)
            yield _counted(lambda count: progress.advance(bar, count))
    else:
        yield _counted(_Lines(what, corpus.size).advance)


def _counted(advance: Callable[[int], None]) -> Callable[[str], str]:
    def count(piece: str) -> str:
        advance(len(piece))
        return piece

    return count


class _Lines:
    """A line every ten seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.since = self.said = time.monotonic()

    def advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.said >= _EVERY:
            self.said = now
            speed = self.done / (now - self.since) / 1e6
            log.info("%s: %.0f of %.0f MB read, %.1f MB/s", self.what, self.done / 1e6, self.total / 1e6, speed)


_EVERY = 10.0
"""Seconds between two lines."""
