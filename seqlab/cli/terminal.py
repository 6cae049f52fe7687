"""Standard streams of a command: escapes of control characters, and errors of writing."""

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
"""Colours and cursor movements of progress bars."""


@final
class GuardedStream:
    r"""Stream that writes control characters as ``\x1b``; colours and progress bars pass to a terminal."""

    def __init__(self, stream: TextIO, name: str = "stdout", *, keep_going: bool = False) -> None:
        self._stream, self._name, self._keep_going = stream, name, keep_going
        self._coloured = stream.isatty() or "FORCE_COLOR" in os.environ
        self.fault: OSError | None = None
        """First error of writing; nothing is written after it."""

    def write(self, text: str) -> int:
        """Write text with escaped control characters."""
        parts = _OWN.split(text) if self._coloured else [text]
        shown = "".join(part if place % 2 else escape_control(part) for place, part in enumerate(parts))
        if self.fault is None:
            with self._recording_fault():
                self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; errors as in :meth:`write`."""
        if self.fault is None:
            with self._recording_fault():
                self._stream.flush()

    @contextmanager
    def _recording_fault(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.fault = error
            _silence(self._stream)
            if self._keep_going:
                return
            if isinstance(error, BrokenPipeError):
                raise
            raise UserError(self.message()) from error

    def message(self) -> str:
        """Describe the error of writing in a line."""
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
    """Replacement of a stream that was closed before the program started."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed")


@contextmanager
def guarded_streams(*, keep_going: bool = False) -> Iterator[None]:
    """Guard the standard streams during the block: if stdout cannot be written, stderr says why, and exit code is 1."""
    before = sys.stdin, sys.stdout, sys.stderr
    _occupy_descriptors()
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BytesIO(), "utf-8")
    for stream in (sys.stdout, sys.stderr):
        _set_escapes(stream)
    out = GuardedStream(sys.stdout or _Closed(), "stdout", keep_going=keep_going)
    err = GuardedStream(sys.stderr or _Closed(), "stderr", keep_going=True)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    except SystemExit as stop:
        if stop.code in (0, None) and not _flushed(out):
            raise SystemExit(1) from None
        raise
    finally:
        with suppress(OSError, UserError):
            err.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _flushed(out: GuardedStream) -> bool:
    """Flush stdout; report an error and return whether there was none."""
    with suppress(OSError, UserError):
        out.flush()
    if out.fault is not None and not isinstance(out.fault, BrokenPipeError):
        print(out.message(), file=sys.stderr)
    return out.fault is None


def _occupy_descriptors() -> None:
    """Open the null device in place of each closed standard stream, so that no file gets its descriptor."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number


def _silence(stream: TextIO) -> None:
    """Discard buffered text: Python would write it at exit and print another error."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _set_escapes(stream: TextIO | None) -> None:
    r"""Write characters that the encoding lacks as ``\u00e9``, which JSON reads as the same character."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if isinstance(stream, io.TextIOWrapper) and not encoding.lower().replace("-", "").startswith("utf"):
        codecs.register_error("seqlab.escape", _escape)
        stream.reconfigure(errors="seqlab.escape")


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[place : place + 2], "big") for place in range(0, len(units), 2))
    return "".join(f"\\u{code:04x}" for code in codes), error.end
