"""Slow work on many texts, by several processes.

A helper is a fresh interpreter that reads batches from a pipe. It never imports the program that started it, so that
a script without ``if __name__ == "__main__"``, one read from standard input and a notebook can have helpers too.
"""

import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from queue import SimpleQueue
from typing import Any, TypeVar, final

T = TypeVar("T")
Job = Callable[[Sequence[str]], Sequence[T]]

PATIENCE = 2.0
"""Seconds of work after which helpers are started; they take up to one to come."""
_ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
_BATCH = 100_000  # characters

_START = """
import os, pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes the pipe
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what a job prints is no answer
try:
    sys.path[:] = pickle.load(sys.stdin.buffer)
    job = pickle.load(sys.stdin.buffer)
    while True:
        pickle.dump(list(job(pickle.load(sys.stdin.buffer))), answers)
        answers.flush()
except Exception:
    os._exit(1)  # the parent does the batch itself, and so meets the error where it can be seen
"""


def mapped(job: Job[T], texts: Iterable[str], processes: int | None = None) -> Iterator[T]:
    """Give what a job makes of each text, in the order of the texts; the texts are read as they are needed.

    Work that takes longer than :data:`PATIENCE` is shared with helpers, one for each CPU that this process may use.
    There are none inside a process that another one started, such as a worker of a data loader.

    Args:
        job: makes one thing of each text; the same for the same text, wherever it runs.
        texts: any number of them.
        processes: how many helpers there may be; found out if not given.
    """
    batches = _batches(texts)
    count = _cpus() if processes is None else processes
    since = time.perf_counter()
    for batch in batches:
        yield from job(batch)
        if count > 1 and time.perf_counter() - since > PATIENCE:
            break
    # Most work is done by now; only where a full batch is left do helpers pay.
    first = next(batches, None)
    second = next(batches, None) if first is not None else None
    left = [batch for batch in (first, second) if batch is not None]
    if len(left) < 2:
        for batch in left:
            yield from job(batch)
        return
    yield from _shared(job, chain(left, batches), count)


def _shared(job: Job[T], batches: Iterable[list[str]], count: int) -> Iterator[T]:
    helpers: SimpleQueue[_Helper] = SimpleQueue()
    everyone = [_Helper(job) for _ in range(count)]
    for helper in everyone:
        helpers.put(helper)

    def work(batch: list[str]) -> Sequence[T]:
        helper = helpers.get()
        try:
            return helper.work(batch)
        finally:
            helpers.put(helper)

    waiting: deque[Future[Sequence[T]]] = deque()
    threads = ThreadPoolExecutor(count, thread_name_prefix="seqlab-helper")
    try:
        for batch in batches:
            waiting.append(threads.submit(work, batch))
            if len(waiting) > 2 * count:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        threads.shutdown()
        for helper in everyone:
            helper.close()


@final
class _Helper:
    """One other process, or this one where there can be no other."""

    def __init__(self, job: Job[Any]) -> None:
        self.job = job
        self.process: subprocess.Popen[bytes] | None = None
        try:
            path = pickle.dumps([entry or os.getcwd() for entry in sys.path])  # noqa: PTH109  # sys.path holds strings
            start = path + pickle.dumps(job)
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | _ONE_THREAD,
            )
            self._send(start)
        except (OSError, pickle.PicklingError, AttributeError, TypeError) as error:
            self._give_up(error)

    def work(self, batch: list[str]) -> Sequence[Any]:
        """Have a batch worked on; what the helper cannot do is done here, so that the result is the same."""
        if self.process is not None and self.process.stdout is not None:
            try:
                self._send(pickle.dumps(batch))
                answer: list[Any] = pickle.load(self.process.stdout)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                self._give_up(error)
            else:
                return answer
        return self.job(batch)

    def _send(self, message: bytes) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(message)
        self.process.stdin.flush()

    def _give_up(self, error: Exception) -> None:
        logging.getLogger("seqlab").warning(
            "cleaning goes on without a helper process (%s: %s)", type(error).__name__, error
        )
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not sent yet cannot be sent any more
                    pipe.close()
        process.wait()


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) + 100
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cpus() -> int:
    if multiprocessing.parent_process() is not None or not sys.executable:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
