"""Coroutines on threads: one thread of several runs at a time, each with its own random numbers."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, final

import numpy as np

from seqlab.training.process_state import rng_state, set_rng_state


@final
class Turn:
    """A function in a thread of its own, which runs only while :meth:`resume` waits for it.

    Random generators belong to the process. Each turn has its own states of them, so that what others draw between two
    of its turns changes nothing.

    Args:
        function: called in the thread.
        enter: called there at the start of each turn, to restore further state of the process.

    Attributes:
        done: whether the function has ended.
        error: the exception that ended it, if any.
    """

    def __init__(self, function: Callable[[], Any], enter: Callable[[], None] = lambda: None) -> None:
        self._function, self._enter = function, enter
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._may_run, self._has_paused = threading.Semaphore(0), threading.Semaphore(0)
        self._raise: BaseException | None = None
        self._random: Any = None
        self.done = False
        self.error: BaseException | None = None

    @property
    def thread(self) -> int | None:
        """Identifier of the thread; ``None`` before it starts."""
        return self._thread.ident

    def resume(self, error: BaseException | None = None) -> None:
        """Let the thread run to its next :meth:`pause` or to its end.

        Args:
            error: raised by :meth:`pause` in the thread.
        """
        self._raise = error
        outside = _random_state()
        if self._random is not None:
            _set_random_state(self._random)
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._may_run.release()
        self._has_paused.acquire()
        self._random = _random_state()
        _set_random_state(outside)

    def pause(self) -> None:
        """End this turn; call it in the thread only. It returns when the next one begins."""
        self._has_paused.release()
        self._may_run.acquire()
        self._enter()
        if self._raise is not None:
            raise self._raise

    def random_state(self) -> dict[str, Any]:
        """Return the states of its random generators, also between its turns."""
        if threading.current_thread() is self._thread or self._random is None:
            return rng_state()
        state: dict[str, Any] = self._random[0]
        return state

    def _run(self) -> None:
        try:
            self._enter()
            self._function()
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self._has_paused.release()


def _random_state() -> tuple[dict[str, Any], Any]:
    return rng_state(), np.random.get_state()


def _set_random_state(state: tuple[dict[str, Any], Any]) -> None:
    set_rng_state(state[0])
    np.random.set_state(state[1])


on_trainer: ContextVar[Callable[[Any, Any], None] | None] = ContextVar("on_trainer", default=None)
"""In the thread of a replica: takes its :class:`.TrainingSession` and its trainer before training starts."""
