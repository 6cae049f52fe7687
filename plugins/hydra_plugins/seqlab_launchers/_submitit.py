"""Hydra's submitit launchers, which here leave out what is done, and wait by the ledger.

Hydra's own wait for each job's result by turns, for ever where a job was killed before it wrote one, and raise at the
first that failed.
"""

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import OmegaConf

from seqlab.discovery.hydra_source import register as register_plugins
from seqlab.sweeps import slurm
from seqlab.sweeps.ledger import Entry, entry_of, write_queued
from seqlab.sweeps.selection import is_meant
from seqlab.sweeps.start import register as register_names

log = logging.getLogger("seqlab")

_POLL = 1.0
_GRACE = 60.0
"""Seconds that a job may be gone from the queue before its page says what became of it: shared file systems lag."""

Run = tuple[int, Sequence[str], Path]


class _LedgerLauncher(BaseSubmititLauncher):
    def __call__(self, *arguments: Any, **named: Any) -> JobReturn:
        """Do a run, in the job's process."""
        register_plugins()
        register_names()
        return super().__call__(*arguments, **named)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit what is left to do, and wait until the ledger says what became of it."""
        runs = [(initial_job_idx + n, words, self._folder(words)) for n, words in enumerate(job_overrides)]
        waiting = slurm.active()
        adopted = {folder: job for _, _, folder in runs if (job := entry_of(folder).job) in waiting}
        left = [run for run in runs if run[2] not in adopted and self._is_left(run[2])]
        log.info("%d runs: %d to submit, %d in the queue already", len(runs), len(left), len(adopted))
        self._do(left, adopted)
        return [_told(words, entry_of(folder)) for _, words, folder in runs]

    def _folder(self, words: Sequence[str]) -> Path:
        assert self.hydra_context is not None
        assert self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(words))
        return Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir

    @staticmethod
    def _is_left(folder: Path) -> bool:
        return entry_of(folder).state not in ("done", "running") and is_meant(folder.name)

    def _executor(self, cluster: str) -> Any:
        import submitit

        settings = {key: value for key, value in self.params.items() if value is not None}
        folder = settings.pop("submitit_folder")
        settings.pop("parallel", None)
        executor = submitit.AutoExecutor(cluster=cluster, folder=folder)
        common = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"}
        common |= {"stderr_to_stdout"}
        executor.update_parameters(
            **{key if key in common else f"{cluster}_{key}": value for key, value in settings.items()}
        )
        return executor

    def _arguments(self, run: Run) -> tuple[Any, ...]:
        from hydra.core.singleton import Singleton

        number, words, _ = run
        return list(words), "hydra.sweep.dir", number, f"job_{number}", Singleton.get_state()

    @abstractmethod
    def _do(self, left: Sequence[Run], adopted: dict[Path, str]) -> None: ...


@final
class SlurmLauncher(_LedgerLauncher):
    """An array job on SLURM."""

    def _do(self, left: Sequence[Run], adopted: dict[Path, str]) -> None:
        watched = dict(adopted)
        if left:
            jobs = self._executor("slurm").map_array(self, *zip(*map(self._arguments, left), strict=True))
            for (_, words, folder), job in zip(left, jobs, strict=True):
                watched[folder] = job.job_id
                write_queued(folder, words, job.job_id)
        gone: dict[Path, float] = {}
        while watched:
            time.sleep(_POLL)
            waiting = slurm.active()
            for folder, job in list(watched.items()):
                entry = entry_of(folder)
                if entry.state in ("done", "failed") and job not in waiting:
                    del watched[folder]
                elif job in waiting:
                    gone.pop(folder, None)
                elif time.monotonic() - gone.setdefault(folder, time.monotonic()) > _GRACE:
                    log.warning("%s: job %s is gone, and its page says %s", folder.name, job, entry.state)
                    del watched[folder]


@final
class LocalLauncher(_LedgerLauncher):
    """Processes on this machine, some at a time; a new one for each run, so that none can take others with it."""

    def _do(self, left: Sequence[Run], adopted: dict[Path, str]) -> None:
        executor = self._executor("local")
        queue, running = list(left), []
        while queue or running:
            running = [job for job in running if not job.done()]
            while queue and len(running) < self.params.get("parallel", 1):
                running.append(executor.submit(self, *self._arguments(queue.pop(0))))
            time.sleep(0.2)


def _told(words: Sequence[str], entry: Entry) -> JobReturn:
    """Say to a sweeper what became of a run: its objective, or NaN."""
    objective = float("nan") if entry.objective is None else entry.objective
    return JobReturn(overrides=list(words), cfg=OmegaConf.create(), status=JobStatus.COMPLETED, _return_value=objective)
