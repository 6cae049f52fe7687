"""Running text as a file of token ids in the cache: encoded once, read in pieces."""

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

_PROGRESS_FROM = 2**24
"""Bytes of a text from which on progress is shown."""
_LOG_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal."""
_SIGNED = {1: np.int16, 2: np.int32, 4: np.int32}
"""Dtype that holds all token ids of an unsigned integer of so many bytes, and that torch can count with."""


@final
class TokenFile:
    """Token ids in a file, read on demand.

    Attributes:
        facts: ``tokens``, ``unknown``, ``bytes`` (of the text in UTF-8, as it is read), ``dtype``, ``crc32``, and
            ``counts`` of each token id.

    Args:
        path: the file; its facts are in a JSON file beside it.

    Raises:
        ValueError: the two do not fit each other.
        OSError: they cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = json.loads(_facts_path(path).read_text("utf-8"))
        self.dtype = np.dtype(self.facts["dtype"])
        self._file = os.open(path, os.O_RDONLY)
        if os.fstat(self._file).st_size != len(self) * self.dtype.itemsize or self._checksum() != self.facts["crc32"]:
            raise ValueError(f"{path} is damaged")

    def __len__(self) -> int:
        return int(self.facts["tokens"])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file, which another process does not have."""
        return {key: value for key, value in self.__dict__.items() if key != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._file = os.open(self.path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Read ``count`` ids, or fewer at the end."""
        size = self.dtype.itemsize
        return np.frombuffer(os.pread(self._file, count * size, start * size), self.dtype).astype(np.int64)

    def read_all(self) -> Tensor:
        """Read all ids as the smallest signed dtype that holds them."""
        return torch.from_numpy(np.fromfile(self.path, self.dtype).astype(_SIGNED[self.dtype.itemsize]))

    def _checksum(self) -> int:
        checksum, position = 0, 0
        while piece := os.pread(self._file, 2**22, position):
            checksum, position = zlib.crc32(piece, checksum), position + len(piece)
        return checksum


def encode_corpus(corpus: Corpus, preprocessor: Preprocessor, pipeline: Any, split: str) -> TokenFile:
    """Encode running text into the cache, or find it there.

    Args:
        corpus: the text.
        preprocessor: fitted.
        pipeline: the preprocessor's node in the config, part of the cache key.
        split: its name, for the progress bar.

    Raises:
        ValueError, OSError: the text cannot be read, or the cache cannot be written.
    """
    path = cache_path("corpora", [corpus.fingerprint, pipeline, preprocessor.state_dict()], ".tokens")
    with locked(path):
        if path.exists():
            try:
                return TokenFile(path)
            except (ValueError, OSError, KeyError) as error:
                warn_damaged(path, error)
        _write(corpus, preprocessor, path, split)
    return TokenFile(path)


def fit_corpus(corpus: Corpus, preprocessor: Preprocessor, pipeline: Any) -> None:
    """Fit a preprocessor to running text, or load the result of an earlier fit from the cache."""

    def fit() -> dict[str, Any]:
        with _progress("vocabulary", corpus) as counted:
            preprocessor.fit(counted(piece) for piece in corpus.pieces())
        return preprocessor.state_dict()

    cached_json("vocabularies", [corpus.fingerprint, pipeline], fit, preprocessor.load_state_dict)


def begin_id(preprocessor: Preprocessor) -> int:
    """Return the input before the first token of a text: the end of a line, if it has a token; else the unknown one."""
    ids = preprocessor.encode(["\n"]).values
    return int(ids[-1]) if len(ids) else preprocessor.unknown_id


def _facts_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _write(corpus: Corpus, preprocessor: Preprocessor, path: Path, split: str) -> None:
    size = preprocessor.size
    dtype = np.dtype(np.uint8 if size <= 2**8 else np.uint16 if size <= 2**16 else np.uint32)
    tokens = unknown = checksum = size_in_bytes = 0
    counts = np.zeros(size, np.int64)
    try:
        with replacing(path) as temporary:
            with temporary.open("wb") as file, _progress(split, corpus) as counted:
                for piece in corpus.pieces():
                    size_in_bytes += len(piece.encode("utf-8", "surrogatepass"))
                    ids = preprocessor.encode([counted(piece)]).values.numpy()
                    data = ids.astype(dtype).tobytes()
                    checksum = zlib.crc32(data, checksum)
                    file.write(data)
                    tokens += len(ids)
                    unknown += int((ids == preprocessor.unknown_id).sum())
                    counts += np.bincount(ids, minlength=size)
            facts = {
                "tokens": tokens,
                "unknown": unknown,
                "bytes": size_in_bytes,
                "dtype": dtype.name,
                "crc32": checksum,
            }
            write_json(_facts_path(path), {**facts, "counts": counts.tolist()})
    except OSError as error:
        raise OSError(
            f"{path.parent} cannot be written ({error.strerror}); set SEQLAB_CACHE to another folder"
        ) from error


@contextmanager
def _progress(what: str, corpus: Corpus) -> Iterator[Callable[[str], str]]:
    """Yield a function that returns each piece of a text, and shows how much of a large text has been read.

    In a terminal that is a progress bar, elsewhere a line every ten seconds.
    """
    if corpus.size < _PROGRESS_FROM:
        yield lambda piece: piece
        return
    if not sys.stderr.isatty():
        yield _log_progress(what, corpus.size)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=corpus.size)

        def counted(piece: str) -> str:
            progress.advance(bar, len(piece))
            return piece

        yield counted


def _log_progress(what: str, size: int) -> Callable[[str], str]:
    started = logged = time.monotonic()
    done = 0

    def counted(piece: str) -> str:
        nonlocal done, logged
        done, now = done + len(piece), time.monotonic()
        if now - logged >= _LOG_SECONDS:
            logged = now
            speed = done / (now - started) / 1e6
            log.info("%s: %.0f of %.0f MB read, %.1f MB/s", what, done / 1e6, size / 1e6, speed)
        return piece

    return counted
