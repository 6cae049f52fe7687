"""Joblib launcher whose processes know seqlab's plugins, and that survives the death of a process."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, final

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_joblib_launcher import joblib_launcher  # type: ignore[import-untyped]  # it has no types
from joblib.externals.loky import reusable_executor  # type: ignore[import-untyped]  # it has no types
from joblib.externals.loky.process_executor import TerminatedWorkerError  # type: ignore[import-untyped]  # it has no types

from hydra_plugins.seqlab_sweeps._groups import GroupedTask
from hydra_plugins.seqlab_sweeps._jobs import Job, job_returns, run_folders, with_cache
from seqlab.distributed.signals import SIGNALS
from seqlab.sweeps.launchers import visible_gpus
from seqlab.sweeps.ledger import State, read_entry

log = logging.getLogger("seqlab")

_ATTEMPTS = 2
"""How often a run may be cut by the death of a process; one that runs out of memory would kill processes for ever."""


@final
class JoblibLauncher(joblib_launcher.JoblibLauncher):  # type: ignore[misc]  # untyped, as Hydra has it
    """Processes on this machine, each of which trains one run after another."""

    config: Any
    hydra_context: Any
    task_function: Any

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the runs; if a process dies, joblib ends the others too, and their runs are resumed."""
        if not isinstance(self.task_function, Job):
            self.task_function = Job(self.task_function, visible_gpus(), many=True)
        self.hydra_context = with_cache(self.hydra_context)
        with _forward_signals() as received:
            try:
                done: Sequence[JobReturn] = super().launch(job_overrides, initial_job_idx)
            except TerminatedWorkerError:
                folders = self._folders(job_overrides)
                self._retry(job_overrides, folders, initial_job_idx, received)
                done = job_returns(job_overrides, [group[0] for group in folders], self.config)
        return done

    def _folders(self, jobs: Sequence[Sequence[str]]) -> list[list[Path]]:
        """Return for each job the folders of its runs; its own is the first."""
        task = self.task_function.function
        groups = [[job, *(task.others(job) if isinstance(task, GroupedTask) else ())] for job in jobs]
        found = iter(run_folders(self.hydra_context, self.config, [run for group in groups for run in group]))
        return [list(islice(found, len(group))) for group in groups]

    def _retry(
        self, jobs: Sequence[Sequence[str]], folders: Sequence[Sequence[Path]], first: int, received: list[Any]
    ) -> None:
        """Launch the jobs again of which a run is left.

        Args:
            jobs: overrides of the first run of each.
            folders: of all runs of each.
            first: number of the first job.
            received: signals to stop.
        """
        cut: Counter[Path] = Counter()
        before: dict[Path, State] = {}
        while not received:
            states = {folder: read_entry(folder).state for group in folders for folder in group}
            if states == before:
                return  # processes die before they start a run
            cut.update(folder for folder, state in states.items() if state == "stopped")
            wanted = {folder for folder, state in states.items() if state in ("missing", "stopped")}
            wanted -= {folder for folder, times in cut.items() if times >= _ATTEMPTS}
            left = [job for job, group in zip(jobs, folders, strict=True) if not wanted.isdisjoint(group)]
            if not left:
                return
            log.warning("a process died; resuming, %d runs are left", len(wanted))
            before = states
            with suppress(TerminatedWorkerError):
                super().launch(left, first)
                return


@contextmanager
def _forward_signals() -> Iterator[list[signal.Signals]]:
    """Forward signals to the processes, which save their runs; a second signal ends this process at once.

    Raises:
        KeyboardInterrupt: the first was Ctrl-C.
        SystemExit: it was another.
    """
    received: list[signal.Signals] = []

    def handle(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))
        for process in list(getattr(reusable_executor._executor, "_processes", None) or ()):
            os.kill(process, number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(75)
