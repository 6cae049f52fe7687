"""What compiling costs a run: graphs and seconds."""

import time
from typing import Any, final


@final
class Compilations:
    """Counts what torch compiles in this process once a cell was compiled, and the seconds that takes.

    Attributes:
        count: graphs begun; a graph's backward half, which is compiled when it is first needed, is part of it.
        seconds: of compiling, forward and backward.
    """

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self._since: float | None = None

    def watch(self) -> None:
        """Begin to count, if that has not begun."""
        if self._since is None:
            from torch._dynamo.callback import on_compile_end, on_compile_start  # takes a second to import

            self._since = 0.0
            on_compile_start(self._start)
            on_compile_end(self._end)

    def _start(self, what: Any) -> None:
        self._since = time.perf_counter()
        self.count += what.callback_trigger.name == "DYNAMO"

    def _end(self, what: Any) -> None:
        self.seconds += time.perf_counter() - (self._since or 0.0)


compilations = Compilations()
"""This process's."""
