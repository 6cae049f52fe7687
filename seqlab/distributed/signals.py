"""Signals that ask a run to stop where it can be resumed exactly."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, final

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
"""The signals that schedulers send before they kill, and Ctrl-C."""


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block the signals; a process that is started meanwhile begins with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StoppedError(Exception):
    """A signal stopped the run."""

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(f"stopped by {by.name}")
        self.by = by


@final
class StopRequest:
    """The first signal that arrived, and when; a second Ctrl-C raises ``KeyboardInterrupt`` at once."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self.since = 0.0
        self._handles = False

    @contextmanager
    def handling_signals(self) -> Iterator["StopRequest"]:
        """Handle the signals; do nothing outside the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self._handles = True
        try:
            yield self
        finally:
            self._handles = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def reinstall_handlers(self) -> None:
        """Install the handlers again after another library, such as Lightning, replaced them."""
        is_main = threading.current_thread() is threading.main_thread()
        for number in SIGNALS if self._handles and is_main else ():
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.by is None:
            self.by, self.since = signal.Signals(number), time.monotonic()

    def is_older_than(self, seconds: float) -> bool:
        """Whether a signal arrived more than ``seconds`` ago."""
        return self.by is not None and time.monotonic() - self.since > seconds
