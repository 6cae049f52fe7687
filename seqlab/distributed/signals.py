"""Signals that ask a run to stop: it stops where it can go on exactly."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, final

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
"""What schedulers send before they kill, and Ctrl-C."""


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Put the signals off for a while; a process that is started meanwhile begins with them put off."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StoppedError(Exception):
    """A run stopped because a signal asked it to.

    Attributes:
        by: the signal.
    """

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(f"stopped by {by.name}")
        self.by = by


@final
class StopRequest:
    """Whether a signal has asked for an end, and when.

    The first signal is a request, which training honours after the batch at hand; a second Ctrl-C ends at once.
    """

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self.since = 0.0
        self._listens = False

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take the signals for a while; outside the main thread there are none to be had."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        self._listens = True
        try:
            yield self
        finally:
            self._listens = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen_again(self) -> None:
        """Take the signals from whoever took them in the meantime, such as Lightning."""
        for number in SIGNALS if self._listens else ():
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> Any:
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.by is None:
            self.by, self.since = signal.Signals(number), time.monotonic()

    def overdue(self, seconds: float) -> bool:
        """Whether the request is older than so many seconds."""
        return self.by is not None and time.monotonic() - self.since > seconds
