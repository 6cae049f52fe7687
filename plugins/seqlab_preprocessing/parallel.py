"""Parallel map over texts by worker processes.

A worker is a fresh interpreter that reads batches from a pipe. It never imports the program that started it, so that
a script without ``if __name__ == "__main__"``, one read from standard input and a notebook can have workers too.
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
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any, TypeVar, final

T = TypeVar("T")
Job = Callable[[Sequence[str]], Sequence[T]]

PATIENCE = 2.0
"""Seconds of work before workers are started; they take up to one to start."""
_ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
_BATCH = 100_000  # characters

_START = """
import os, pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes the pipe
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what a job prints is not an answer
try:
    sys.path[:] = pickle.load(sys.stdin.buffer)
    job = pickle.load(sys.stdin.buffer)
    while True:
        pickle.dump(list(job(pickle.load(sys.stdin.buffer))), answers)
        answers.flush()
except Exception:
    os._exit(1)  # the parent repeats the batch itself, where the error can be seen
"""


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Group texts into batches of a little more than ``size`` characters; each text counts 100 more."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text) + 100
        if characters > size:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def mapped(job: Job[T], texts: Iterable[str], processes: int | None = None) -> Iterator[T]:
    """Map texts in order; the texts are read as they are needed.

    Work that takes longer than :data:`PATIENCE` is shared with workers, one for each CPU that this process may use.
    There are none inside a process that another one started, such as a worker of a data loader.

    Args:
        job: maps a batch of texts to one result each; the result depends on the text alone.
        texts: any number of them.
        processes: maximum number of workers; the number of CPUs if not given.
    """
    remaining = batches(texts, _BATCH)
    count = _cpus() if processes is None else processes
    since = time.perf_counter()
    for batch in remaining:
        yield from job(batch)
        if count > 1 and time.perf_counter() - since > PATIENCE:
            break
    # Workers pay only if at least one full batch is left.
    first = list(islice(remaining, 2))
    if len(first) == 2:
        yield from _shared(job, chain(first, remaining), count)
    else:
        for batch in first:
            yield from job(batch)


def _shared(job: Job[T], remaining: Iterable[list[str]], count: int) -> Iterator[T]:
    workers = [_Worker(job) for _ in range(count)]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def run(batch: list[str]) -> Sequence[T]:
        worker = idle.get()
        try:
            return worker.run(batch)
        finally:
            idle.put(worker)

    waiting: deque[Future[Sequence[T]]] = deque()
    threads = ThreadPoolExecutor(count, thread_name_prefix="seqlab-worker")
    try:
        for batch in remaining:
            waiting.append(threads.submit(run, batch))
            if len(waiting) > 2 * count:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        threads.shutdown()
        for worker in workers:
            worker.close()


@final
class _Worker:
    """Another process, or this one where that fails."""

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

    def run(self, batch: list[str]) -> Sequence[Any]:
        """Process a batch; what the worker cannot do is done in this process, with the same result."""
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
            "text cleaning continues without a worker process (%s: %s)", type(error).__name__, error
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


def _cpus() -> int:
    if multiprocessing.parent_process() is not None or not sys.executable:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
