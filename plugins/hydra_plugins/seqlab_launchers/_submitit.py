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

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher  # type: ignore[import-untyped]  # it has no types

from hydra_plugins.seqlab_launchers._job import Job, folders_of, told
from seqlab.sweeps import resources
from seqlab.sweeps.ledger import entry_of, write_queued
from seqlab.sweeps.resources import visible_gpus
from seqlab.sweeps.selection import is_selected

log = logging.getLogger("seqlab")

_POLL = 1.0
_GRACE = 60.0
"""Seconds that a job may be gone from the queue before its page says what became of it: shared file systems lag."""

Run = tuple[int, Sequence[str], Path]


class _LedgerLauncher(BaseSubmititLauncher):  # type: ignore[misc]  # untyped, as Hydra has it
    task_function: Any

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit what is left to do, and wait until the ledger says what became of it."""
        assert self.task_function is not None
        self.task_function = Job(self.task_function, self._gpus())
        folders = folders_of(self.hydra_context, self.config, job_overrides)
        runs = [
            (initial_job_idx + n, words, folder)
            for n, (words, folder) in enumerate(zip(job_overrides, folders, strict=True))
        ]
        waiting = self._waiting()
        adopted = {folder: job for _, _, folder in runs if (job := entry_of(folder).job) in waiting}
        left = [run for run in runs if run[2] not in adopted and self._is_left(run[2])]
        log.info("%d runs: %d to submit, %d in the queue already", len(runs), len(left), len(adopted))
        self._do(left, adopted)
        return [told(words, folder, self.config) for _, words, folder in runs]

    @staticmethod
    def _is_left(folder: Path) -> bool:
        return entry_of(folder).state not in ("done", "running") and is_selected(folder.name)

    def _executor(self, cluster: str) -> Any:
        import submitit

        settings = {key: value for key, value in self.params.items() if value is not None}
        folder = settings.pop("submitit_folder")
        for own in ("parallel", "array_size"):
            settings.pop(own, None)
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

    def _waiting(self) -> set[str]:
        return set()

    def _gpus(self) -> list[str]:
        return []  # the scheduler's business

    @abstractmethod
    def _do(self, left: Sequence[Run], adopted: dict[Path, str]) -> None: ...


@final
class SlurmLauncher(_LedgerLauncher):
    """An array job on SLURM."""

    def _waiting(self) -> set[str]:
        return resources.active()

    def _do(self, left: Sequence[Run], adopted: dict[Path, str]) -> None:
        size, watched = self.params["array_size"], dict(adopted)
        for begin in range(0, len(left), size):
            watched |= self._submit(left[begin : begin + size])
            self._wait(watched)
        self._wait(watched)

    def _submit(self, runs: Sequence[Run]) -> dict[Path, str]:
        jobs = self._executor("slurm").map_array(self, *zip(*map(self._arguments, runs), strict=True))
        for (_, words, folder), job in zip(runs, jobs, strict=True):
            write_queued(folder, words, job.job_id)
        return {folder: job.job_id for (_, _, folder), job in zip(runs, jobs, strict=True)}

    def _wait(self, watched: dict[Path, str]) -> None:
        """Wait for jobs; the page of a run is read once its job has left the queue, not before."""
        gone: dict[Path, float] = {}
        while watched:
            time.sleep(min(30.0, max(_POLL, len(watched) / 100)))
            waiting = resources.active()
            for folder, job in list(watched.items()):
                if job in waiting:
                    gone.pop(folder, None)
                elif (state := entry_of(folder).state) in ("done", "failed"):
                    del watched[folder]
                elif time.monotonic() - gone.setdefault(folder, time.monotonic()) > _GRACE:
                    log.warning("%s: job %s is gone, and its page says %s", folder.name, job, state)
                    del watched[folder]


@final
class LocalLauncher(_LedgerLauncher):
    """Processes on this machine, some at a time; a new one for each run, so that none can take others with it."""

    def _gpus(self) -> list[str]:
        return visible_gpus()

    def _do(self, left: Sequence[Run], adopted: dict[Path, str]) -> None:
        executor = self._executor("local")
        queue, running = list(left), list[Any]()
        while queue or running:
            running = [job for job in running if not job.done()]
            while queue and len(running) < self.params.get("parallel", 1):
                running.append(executor.submit(self, *self._arguments(queue.pop(0))))
            time.sleep(0.2)
