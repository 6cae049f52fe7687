"""The streams of a command: what cannot be shown or written, and control characters of strangers' files."""

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, final

from seqlab.errors import UserError
from seqlab.io.safe_io import escape_control

_OWN = re.compile(r"(\x1b\[[0-9;?]*[A-HJKSTfhlm])")
"""Colours, and what progress bars move by."""


@final
class GuardedStream:
    r"""A stream that writes control characters as ``\x1b``; to a terminal, colours and progress bars pass.

    Args:
        stream: where text goes.
        name: what an error calls it.
        keep_going: whether a command goes on when the stream cannot be written: for one whose results are files.
    """

    def __init__(self, stream: TextIO, name: str = "stdout", *, keep_going: bool = False) -> None:
        self._stream, self._name, self._keep_going = stream, name, keep_going
        self._coloured = stream.isatty() or "FORCE_COLOR" in os.environ
        self.fault: OSError | None = None
        """What the system said when the stream could not be written."""

    def write(self, text: str) -> int:
        """Write text that a terminal shows as it is.

        Raises:
            BrokenPipeError: its reader is gone, and the command does not go on without.
            UserError: it cannot be written for another reason.
        """
        if not self._coloured:
            shown = escape_control(text)
        else:
            parts = _OWN.split(text)
            shown = "".join(part if n % 2 else escape_control(part) for n, part in enumerate(parts))
        if self.fault is None:
            with self._noting():
                self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Write what is waiting; errors as :meth:`write` has them."""
        if self.fault is None:
            with self._noting():
                self._stream.flush()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep the first error of the system; nothing is written after it."""
        try:
            yield
        except OSError as error:
            self.fault = error
            _silence(self._stream)
            if self._keep_going:
                return
            if isinstance(error, BrokenPipeError):
                raise
            raise UserError(self.said()) from error

    def said(self) -> str:
        """Say in a line that the stream cannot be written, and why."""
        assert self.fault is not None
        return f"{self._name} cannot be written: {self.fault.strerror}"

    def writelines(self, lines: Any) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@final
class _Closed(io.StringIO):
    """Stands for a stream that was closed before the program began."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed")


@contextmanager
def guarded_streams(*, keep_going: bool = False) -> Iterator[None]:
    """Guard what this process prints, for a while.

    Where stdout could not be written, one line on stderr says why and the exit code is 1.

    Args:
        keep_going: whether the command goes on then, since its results are files.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _occupy()
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BytesIO(), "utf-8")
    for stream in (sys.stdout, sys.stderr):
        _escaping(stream)
    out = GuardedStream(sys.stdout or _Closed(), "stdout", keep_going=keep_going)
    err = GuardedStream(sys.stderr or _Closed(), "stderr", keep_going=True)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    except SystemExit as stop:
        if stop.code in (0, None) and not _told(out):
            raise SystemExit(1) from None
        raise
    finally:
        with suppress(OSError, UserError):
            err.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _told(out: GuardedStream) -> bool:
    """Write what is waiting; whether all of it could be written."""
    with suppress(OSError, UserError):
        out.flush()
    if out.fault is not None and not isinstance(out.fault, BrokenPipeError):
        print(out.said(), file=sys.stderr)
    return out.fault is None


def _occupy() -> None:
    """Open nothing in place of each standard stream that is closed, so that no file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free


def _silence(stream: TextIO) -> None:
    """Send what is still waiting nowhere: Python would try it once more at the end, and complain."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _escaping(stream: TextIO | None) -> None:
    r"""Let a stream write as ``\u00e9`` what its encoding lacks, which JSON reads as the same letter."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if isinstance(stream, io.TextIOWrapper) and not encoding.lower().replace("-", "").startswith("utf"):
        codecs.register_error("seqlab.escape", _escaped)
        stream.reconfigure(errors="seqlab.escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[place : place + 2], "big") for place in range(0, len(units), 2))
    return "".join(f"\\u{code:04x}" for code in codes), error.end
