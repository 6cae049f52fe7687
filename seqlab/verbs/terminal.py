"""What is printed: names and labels out of strangers' files cannot command the terminal."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, final

from seqlab.bounded import printable

_OWN = re.compile(r"(\x1b\[[0-9;?]*[A-HJKSTfhlm])")
"""Colours, and what progress bars move by."""


@final
class Guarded:
    r"""A stream that writes control characters as ``\x1b``; to a terminal, colours and progress bars pass.

    Args:
        stream: where text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._coloured = stream.isatty() or "FORCE_COLOR" in os.environ

    def write(self, text: str) -> int:
        """Write text that a terminal shows as it is."""
        if not self._coloured:
            self._stream.write(printable(text))
        else:
            parts = _OWN.split(text)
            self._stream.write("".join(part if n % 2 else printable(part) for n, part in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Guard what this process prints, for a while."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Guarded(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
