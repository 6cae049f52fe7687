"""Processes that train the runs of a card; many that differ in seed and learning rate alone train together."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path
from typing import final

from seqlab.config.compose import Composer
from seqlab.distributed.signals import StoppedError
from seqlab.errors import UserError, one_line
from seqlab.io.formatting import shell_command
from seqlab.runs.ownership import OwnedError, owned_folder
from seqlab.runs.run_folder import RESULTS, RESUME
from seqlab.sweeps.groups import grouped
from seqlab.sweeps.ledger import read_entry, run_status
from seqlab.sweeps.plan import run_name

log = logging.getLogger("seqlab")

Words = tuple[str, ...]

_ATTEMPTS = 2
"""How often a run may be cut by the death of a process."""
_FEWEST = 8
"""Runs that train together, at least. With models of 16,000 parameters and batches of 32 short sequences, three take
1.05 (sLSTM) to 1.2 (minGRU) times the CPU time of one by one, six 0.9 (GRU)."""
_GRACE = 60.0
"""Seconds in which a process may save its run after its parent ended."""


@cache
def _composer() -> Composer:
    return Composer()


def run_folder(folder: Path, words: Sequence[str]) -> Path:
    """Return the folder of a run, which its config determines.

    Raises:
        UserError, hydra.errors.HydraException: the run cannot be composed.
    """
    return folder / run_name(_composer().checked(words))


def pending(folder: Path, runs: Sequence[Sequence[str]], *, retry: bool = False) -> list[Words]:
    """Return the overrides of the runs that have not ended; with ``retry``, also of those that failed."""
    ended = ("done",) if retry else ("done", "failed")
    return [tuple(words) for words in runs if read_entry(run_folder(folder, words)).state not in ended]


def train_run(folder: Path, words: Words) -> None:
    """Train a run unless it is done; resume it if it was stopped. Its run record says how it ended.

    Raises:
        StoppedError: a signal stopped it.
    """
    from seqlab.training.run import run

    config = _composer().checked(words)
    place = folder / run_name(config)
    try:
        with owned_folder(place):
            if read_entry(place).state == "done":
                return
            (place / RESULTS).unlink(missing_ok=True)
            if (place / RESUME).exists():
                config.ckpt_path = "last"
            with run_status(place, words) as record:
                try:
                    result = run(config, place, shell_command(*words))
                except StoppedError:
                    raise
                except Exception as error:
                    kind = "" if isinstance(error, UserError | ValueError) else f"{type(error).__name__}: "
                    record.update(state="failed", cause=kind + one_line(error))
                else:
                    record.update(state="done", objective=result.objective)
    except OwnedError as error:
        log.info("%s", error)


def train_runs(folder: Path, runs: Sequence[Words]) -> None:
    """Train runs of a group, as :func:`train_run` trains each.

    Args:
        folder: of all.
        runs: differ in seed and learning rate alone, and may train together.

    Raises:
        StoppedError: a signal stopped them.
    """
    if len(runs) == 1:
        train_run(folder, runs[0])
        return
    from seqlab.training.replicas.group import train_together

    replicas = train_together([partial(train_run, folder, words) for words in runs])
    for replica in replicas:
        if replica.turn.error is not None:
            raise replica.turn.error


def _work(folder: Path, runs: Sequence[Words]) -> bool:
    """Train a group; return whether a signal stopped it, after which this process starts no other."""
    if _STOPPED:
        return True
    try:
        train_runs(folder, runs)
    except (StoppedError, KeyboardInterrupt):
        _STOPPED.append(True)
        return True
    return False


_STOPPED: list[bool] = []
"""Holds something once a signal stopped a run of this process."""


def _prepare() -> None:
    """Prepare a process: Ctrl-C arrives through its parent alone, and it does not outlive that."""
    import torch

    os.setpgid(0, 0)
    torch.set_num_threads(1)
    logging.raiseExceptions = False
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # a run in training saves its checkpoint
    time.sleep(_GRACE)
    os._exit(1)


@final
class Pool:
    """Processes that train runs; with one job, runs are trained in this process.

    Args:
        jobs: number of processes.
        on_end: called after each run that was trained here.
        retry: whether to train runs that failed again.
        fewest: number of runs from which those that can train together do.
    """

    def __init__(
        self, jobs: int, on_end: Callable[[], None] = lambda: None, *, retry: bool = False, fewest: int = _FEWEST
    ) -> None:
        self._jobs, self._on_end, self._retry, self._fewest = jobs, on_end, retry, fewest
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._executor is None:
            return
        if kind is not None:
            self._stop()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def pending(self, folder: Path, runs: Sequence[Sequence[str]]) -> list[Words]:
        """Return the overrides of the runs that this would train."""
        return pending(folder, runs, retry=self._retry)

    def run(self, folder: Path, runs: Sequence[Sequence[str]]) -> None:
        """Train the runs that have not ended; return when all have, in whatever state.

        Raises:
            KeyboardInterrupt: a signal stopped a run.
        """
        left = self.pending(folder, runs)
        if self._jobs == 1:
            for group in self._groups(left):
                try:
                    train_runs(folder, group)
                except StoppedError as stop:
                    raise KeyboardInterrupt from stop
                self._count(group)
            return
        for _ in range(_ATTEMPTS):
            try:
                self._run_parallel(folder, left)
            except BrokenProcessPool:
                log.warning("a process died; its run is resumed")
                if self._executor is not None:
                    self._executor.shutdown(wait=True)  # the other processes save their runs
                    self._executor = None
                left = [
                    words for words in left if read_entry(run_folder(folder, words)).state in ("missing", "stopped")
                ]
            else:
                return
        log.warning("a process died again; repeat the command to go on")

    def _run_parallel(self, folder: Path, runs: Sequence[Words]) -> None:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._jobs, context, initializer=_prepare)
        groups = self._groups(runs)
        futures: dict[Future[bool], list[Words]] = {self._executor.submit(_work, folder, each): each for each in groups}
        for future in as_completed(futures):
            if future.result():
                raise KeyboardInterrupt
            self._count(futures[future])

    def _groups(self, runs: Sequence[Words]) -> list[list[Words]]:
        """Return runs that train together, and others one by one."""
        groups = grouped(runs, self._jobs)
        return [
            part for group in groups for part in ([group] if len(group) >= self._fewest else [[run] for run in group])
        ]

    def _count(self, runs: Sequence[Words]) -> None:
        for _ in runs:
            self._on_end()

    def _stop(self) -> None:
        """Stop the runs where they can be resumed."""
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)
