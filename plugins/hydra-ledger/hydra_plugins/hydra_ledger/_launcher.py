"""Launcher between a sweeper and another launcher: it launches the jobs that are left, with continuing numbers."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, final

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from hydra_ledger.errors import LedgerError
from hydra_ledger.records import Entry
from hydra_ledger.selection import is_selected
from hydra_ledger.sweep import Job, Sweep, decode
from hydra_ledger.task import RecordedTask

log = logging.getLogger("hydra_ledger")

_POLL = 0.5


@final
class LedgerLauncher(Launcher):
    """Launcher of the jobs of a sweep that are not done, by the launcher of the config.

    Attributes:
        given: config of the other launcher, the sweep, and whether failed jobs are run again.
    """

    given: ClassVar[tuple[DictConfig, Sweep, bool]]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Put the other launcher back into the config, and create it."""
        launcher, self.sweep, self.retry_failed = self.given
        with read_write(config), open_dict(config):
            config.hydra.launcher = launcher
        self.context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=RecordedTask(task_function), config=config
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch the jobs that are left; return the recorded values of the others."""
        try:
            jobs = self.sweep.assign(job_overrides, self._composed)
        except LedgerError as error:
            raise SystemExit(str(error)) from error
        found: dict[int, JobReturn] = {}
        waited = 0
        while True:
            entries = {
                job: self.sweep.records.read_entry(self.sweep.folder / job.name)
                for job in jobs
                if job.number not in found
            }
            running = [job for job, entry in entries.items() if entry.state == "running"]
            left = [
                job
                for job, entry in entries.items()
                if entry.state != "running" and not self._is_ended(job, entry, found)
            ]
            for stretch in _stretches(left):
                returned = self.launcher.launch([job.overrides for job in stretch], stretch[0].number)
                found |= {job.number: each for job, each in zip(stretch, returned, strict=True)}
            if not running:
                return [found[job.number] for job in jobs]
            if len(running) != waited:
                waited = len(running)
                log.info("%d jobs of an earlier process still run", waited)
            time.sleep(_POLL)

    def _is_ended(self, job: Job, entry: Entry, found: dict[int, JobReturn]) -> bool:
        if entry.state == "done":
            log.info("#%d was done before", job.number)
            found[job.number] = self._returned(job, JobStatus.COMPLETED, decode(entry.value))
        elif not is_selected(job.name):
            found[job.number] = self._returned(job, JobStatus.COMPLETED, None)
        elif entry.state == "failed" and not self.retry_failed:
            found[job.number] = self._returned(job, JobStatus.FAILED, RuntimeError(f"job {job.number}: {entry.cause}"))
        return job.number in found

    def _returned(self, job: Job, status: JobStatus, value: Any) -> JobReturn:
        returned = JobReturn(
            overrides=list(job.overrides), working_dir=str(self.sweep.folder / job.name), status=status
        )
        returned.return_value = value
        return returned

    def _composed(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.num = number
        return config


def _stretches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield jobs with consecutive numbers, in their order: a launcher counts on from one number."""
    stretch: list[Job] = []
    for job in sorted({job.number: job for job in jobs}.values(), key=lambda job: job.number):
        if stretch and job.number != stretch[-1].number + 1:
            yield stretch
            stretch = []
        stretch.append(job)
    if stretch:
        yield stretch
