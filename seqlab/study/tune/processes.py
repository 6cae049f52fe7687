"""Processes that do the jobs of a search; one that dies is replaced, the others go on."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, final

from seqlab.plugins.hydra_source import sources
from seqlab.study.tune.worker import End, Epoch, Job, work

_SAVING = 60.0
"""Seconds in which a process may save its run."""


@final
@dataclass(frozen=True)
class Died:
    """A process died without a word."""


Event = Epoch | End | Died


@final
class _Process:
    """A process, and the job that it does."""

    def __init__(self, folder: Path, metric: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.job: Job | None = None
        self.process = context.Process(target=work, args=(theirs, folder, metric, sources()))
        self.process.start()
        theirs.close()


@final
class Processes:
    """Processes of a search.

    Args:
        count: number of processes.
        folder: of the search.
        metric: of validation that is searched.
    """

    def __init__(self, count: int, folder: Path, metric: str) -> None:
        self._count, self._folder, self._metric = count, folder, metric
        self._all: list[_Process] = []

    @property
    def jobs(self) -> list[Job]:
        """The jobs that are being done."""
        return [each.job for each in self._all if each.job is not None]

    @property
    def is_free(self) -> bool:
        """Whether another job can be started."""
        return len(self.jobs) < self._count

    def start(self, job: Job) -> None:
        """Start a job, in a process that has none or a new one."""
        free = next((each for each in self._all if each.job is None and each.process.is_alive()), None)
        if free is None:
            free = _Process(self._folder, self._metric)
            self._all.append(free)
        free.job = job
        _send(free.connection, job)

    def events(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        """Yield what the processes report within some seconds, with the job; answer an :class:`Epoch` each."""
        by_handle: dict[Any, _Process] = {}
        for each in self._all:
            by_handle |= {each.connection: each, each.process.sentinel: each}
        for each in {id(found): found for handle in wait(by_handle, seconds) if (found := by_handle[handle])}.values():
            job, event = each.job, _received(each.connection)
            if isinstance(event, Died | End):
                each.job = None
            if isinstance(event, Died):
                self._all.remove(each)
                each.process.join()
            if job is not None and event is not None:
                yield job, event

    def answer(self, job: Job, *, stop: bool) -> None:
        """Answer the last :class:`Epoch` of a job."""
        for each in self._all:
            if each.job is job:
                _send(each.connection, stop)

    def interrupt(self) -> None:
        """Have the runs in training saved and stopped, which the next events say; the processes stay."""
        for each in self._all:
            if each.job is not None and each.process.pid is not None and each.process.is_alive():
                os.kill(each.process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """Stop all processes; runs in training are saved first."""
        self.interrupt()
        for each in self._all:
            if each.job is None:
                _send(each.connection, None)
        for each in self._all:
            # One that waits for the answer to an epoch goes on, and saves its run.
            while each.process.is_alive() and each.connection.poll(_SAVING):
                event = _received(each.connection)
                if isinstance(event, Epoch):
                    _send(each.connection, False)
                else:
                    _send(each.connection, None)
                    break
            each.process.join(_SAVING)
            if each.process.is_alive():
                each.process.kill()
                each.process.join()
        self._all = []


def _send(connection: Connection, message: object) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it died just now, which the next events say
        connection.send(message)


def _received(connection: Connection) -> Event | None:
    try:
        if not connection.poll():
            return Died()
        event: Event = connection.recv()
    except (EOFError, ConnectionResetError, BrokenPipeError):
        return Died()
    return event
