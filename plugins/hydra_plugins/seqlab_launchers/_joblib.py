"""Hydra's joblib launcher, whose processes know seqlab's plugins, and which a process that dies does not end."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, final

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from hydra_plugins.hydra_joblib_launcher import joblib_launcher  # type: ignore[import-untyped]  # it has no types
from joblib.externals.loky import reusable_executor  # type: ignore[import-untyped]  # it has no types
from joblib.externals.loky.process_executor import TerminatedWorkerError  # type: ignore[import-untyped]  # it has no types

from hydra_plugins.seqlab_launchers._compose import sharing
from hydra_plugins.seqlab_launchers._job import Job, folders_of, told
from seqlab.distributed.signals import SIGNALS
from seqlab.sweeps.ledger import State, entry_of
from seqlab.sweeps.resources import visible_gpus

log = logging.getLogger("seqlab")

_ATTEMPTS = 2
"""Times that a run may be at hand when a process dies; one that needs too much memory would kill for ever."""


@final
class JoblibLauncher(joblib_launcher.JoblibLauncher):  # type: ignore[misc]  # untyped, as Hydra has it
    """Processes on this machine, each of which does one run after another."""

    task_function: Any
    hydra_context: HydraContext | None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Do the runs; where a process dies, joblib ends the others too, and what they had begun goes on."""
        assert self.task_function is not None
        assert self.hydra_context is not None
        self.task_function = Job(self.task_function, visible_gpus(), many=True)
        self.hydra_context = sharing(self.hydra_context)
        with _handing_on() as asked:
            try:
                done: Sequence[JobReturn] = super().launch(job_overrides, initial_job_idx)
            except TerminatedWorkerError:
                folders = folders_of(self.hydra_context, self.config, job_overrides)
                self._again(job_overrides, folders, initial_job_idx, asked)
            else:
                return done
        return [told(words, folder, self.config) for words, folder in zip(job_overrides, folders, strict=True)]

    def _again(
        self, runs: Sequence[Sequence[str]], folders: Sequence[Path], first: int, asked: list[signal.Signals]
    ) -> None:
        cut: Counter[Path] = Counter()
        before: dict[Path, State] = {}
        while not asked:
            states = {folder: entry_of(folder).state for folder in folders}
            if states == before:
                return  # processes die before they begin a run
            cut.update(folder for folder, state in states.items() if state == "stopped")
            wanted = {folder for folder, state in states.items() if state in ("missing", "stopped")}
            wanted -= {folder for folder, times in cut.items() if times >= _ATTEMPTS}
            left = [words for words, folder in zip(runs, folders, strict=True) if folder in wanted]
            if not left:
                return
            log.warning("a process died; what it and the others had begun goes on, %d runs are left", len(left))
            before = states
            with suppress(TerminatedWorkerError):
                super().launch(left, first)
                return


@contextmanager
def _handing_on() -> Iterator[list[signal.Signals]]:
    """Hand signals on to the processes, which save the runs at hand; then end as they do. A second one ends at once.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
        SystemExit: it was another.
    """
    asked: list[signal.Signals] = []

    def take(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number))
        for process in list(getattr(reusable_executor._executor, "_processes", None) or ()):
            os.kill(process, number)

    before = {number: signal.signal(number, take) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt if asked[0] == signal.SIGINT else SystemExit(75)
