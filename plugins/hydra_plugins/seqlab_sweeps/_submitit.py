"""Submitit launchers that skip finished runs, and wait for the run records instead of each job's pickled result.

The launchers of ``hydra-submitit-launcher`` wait for ever for a job that was killed, and raise at the first that fails.
"""

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, final

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf  # type: ignore[import-untyped]  # it has no types
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher  # type: ignore[import-untyped]  # it has no types

from hydra_plugins.seqlab_sweeps._jobs import Job, job_returns, run_folders
from seqlab.sweeps.launchers import active_jobs, visible_gpus
from seqlab.sweeps.ledger import read_entry, write_queued
from seqlab.sweeps.plan import is_selected

log = logging.getLogger("seqlab")

_POLL = 1.0
_GRACE = 60.0
"""Seconds between a job's end and its run record, at most: shared file systems lag."""
_OWN_KEYS = ("submitit_folder", "parallel", "array_size")
"""Keys that are no parameters of submitit's executor."""
_COMMON_KEYS = {field.name for field in fields(BaseQueueConf)}
"""Keys that submitit takes without the cluster's name in front."""

Run = tuple[int, Sequence[str], Path]
"""Number, overrides and folder."""


class _RecordLauncher(BaseSubmititLauncher):  # type: ignore[misc]  # untyped, as Hydra has it
    task_function: Any

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the runs that are not done, and wait until their run records say how they ended."""
        self.task_function = Job(self.task_function, self._gpus())
        folders = run_folders(self.hydra_context, self.config, job_overrides)
        runs = [(initial_job_idx + n, *run) for n, run in enumerate(zip(job_overrides, folders, strict=True))]
        queued, entries = self._queued(), {folder: read_entry(folder) for folder in folders}
        adopted = {folder: entry.job for folder, entry in entries.items() if entry.job and entry.job in queued}
        left = [
            run
            for run in runs
            if run[2] not in adopted and entries[run[2]].state not in ("done", "running") and is_selected(run[2].name)
        ]
        log.info("%d runs: %d to submit, %d in the queue already", len(runs), len(left), len(adopted))
        self._run(left, adopted)
        return job_returns(job_overrides, folders, self.config)

    def _executor(self, cluster: str) -> Any:
        import submitit

        settings = {key: value for key, value in self.params.items() if value is not None and key not in _OWN_KEYS}
        executor = submitit.AutoExecutor(cluster=cluster, folder=self.params["submitit_folder"])
        executor.update_parameters(
            **{key if key in _COMMON_KEYS else f"{cluster}_{key}": value for key, value in settings.items()}
        )
        return executor

    def _arguments(self, run: Run) -> tuple[Any, ...]:
        number, overrides, _ = run
        return list(overrides), "hydra.sweep.dir", number, f"job_{number}", Singleton.get_state()

    def _queued(self) -> set[str]:
        return set()

    def _gpus(self) -> list[str]:
        return []  # the scheduler assigns them

    @abstractmethod
    def _run(self, left: Sequence[Run], adopted: dict[Path, str]) -> None: ...


@final
class SlurmLauncher(_RecordLauncher):
    """Array jobs on SLURM."""

    def _queued(self) -> set[str]:
        return active_jobs()

    def _run(self, left: Sequence[Run], adopted: dict[Path, str]) -> None:
        size, watched = self.params["array_size"], dict(adopted)
        for start in range(0, len(left), size):
            watched |= self._submit(left[start : start + size])
            self._wait(watched)
        self._wait(watched)

    def _submit(self, runs: Sequence[Run]) -> dict[Path, str]:
        jobs = self._executor("slurm").map_array(self, *zip(*map(self._arguments, runs), strict=True))
        for (_, overrides, folder), job in zip(runs, jobs, strict=True):
            write_queued(folder, overrides, job.job_id)
        return {folder: job.job_id for (_, _, folder), job in zip(runs, jobs, strict=True)}

    def _wait(self, watched: dict[Path, str]) -> None:
        """Wait for jobs; a run record is read only after its job has left the queue."""
        gone: dict[Path, float] = {}
        while watched:
            time.sleep(min(30.0, max(_POLL, len(watched) / 100)))
            queued = active_jobs()
            for folder, job in list(watched.items()):
                if job in queued:
                    gone.pop(folder, None)
                elif (state := read_entry(folder).state) in ("done", "failed"):
                    del watched[folder]
                elif time.monotonic() - gone.setdefault(folder, time.monotonic()) > _GRACE:
                    log.warning("%s: job %s has left the queue, but its run record says %s", folder.name, job, state)
                    del watched[folder]


@final
class LocalLauncher(_RecordLauncher):
    """Processes on this machine, a new one for each run, so that one that dies affects no other run."""

    def _gpus(self) -> list[str]:
        return visible_gpus()

    def _run(self, left: Sequence[Run], adopted: dict[Path, str]) -> None:
        executor = self._executor("local")
        pending, running = list(left), list[Any]()
        while pending or running:
            running = [job for job in running if not job.done()]
            while pending and len(running) < self.params.get("parallel", 1):
                running.append(executor.submit(self, *self._arguments(pending.pop(0))))
            time.sleep(0.2)
