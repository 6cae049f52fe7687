"""Ray launcher that skips finished runs, and whose sweep survives the death of a process."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, final

import ray
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray
from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher as BaseRayLauncher
from omegaconf import DictConfig, OmegaConf, open_dict
from ray.exceptions import RayError, RayTaskError

from hydra_plugins.seqlab_sweeps._jobs import Job, job_returns, run_folders, with_cache
from seqlab.distributed.signals import SIGNALS
from seqlab.errors import UserError, one_line
from seqlab.sweeps.ledger import read_entry
from seqlab.sweeps.plan import is_selected

log = logging.getLogger("seqlab")

_PATIENCE = 600.0
"""Seconds for runs to save themselves, at most."""
_OF_A_NEW_ONE = ("object_store_memory", "include_dashboard")
"""Keys whose defaults are for a Ray that starts here."""


@final
class RayLauncher(BaseRayLauncher):  # type: ignore[misc]  # untyped where it is not installed
    """Tasks of Ray, in processes on this machine or on a cluster.

    Args:
        ray: ``init``, arguments of ``ray.init``, and ``remote``, options of ``ray.remote`` for each run.
    """

    config: Any
    hydra_context: Any
    task_function: Any

    def __init__(self, ray: Mapping[str, Any]) -> None:
        super().__init__(OmegaConf.create(dict(ray)))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the runs that are not done, and wait until Ray has ended all of them.

        Raises:
            UserError: Ray refuses the settings, or a run cannot be started.
        """
        self.hydra_context = with_cache(self.hydra_context)
        if not isinstance(self.task_function, Job):  # Ray chooses the GPUs, and starts processes where it was started
            self.task_function = Job(self.task_function, [], folder=os.getcwd())  # noqa: PTH109  # links stay
        folders = run_folders(self.hydra_context, self.config, job_overrides)
        left = {
            initial_job_idx + n: run
            for n, (run, folder) in enumerate(zip(job_overrides, folders, strict=True))
            if read_entry(folder).state != "done" and is_selected(folder.name)
        }
        log.info("%d runs: %d to do", len(folders), len(left))
        if left:
            self._run(left)
        return job_returns(job_overrides, folders, self.config)

    def _run(self, left: Mapping[int, Sequence[str]]) -> None:
        _start(self.ray_cfg)
        tasks: dict[Any, int] = {}
        with _interrupting():
            try:
                for number, overrides in left.items():
                    tasks[self._submit(number, overrides)] = number
                _wait(tasks)
            except KeyboardInterrupt:
                _stop(tasks)
                raise

    def _submit(self, number: int, overrides: Sequence[str]) -> Any:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_{number}", number
        return launch_job_on_ray(
            self.hydra_context, self.ray_cfg.remote, config, self.task_function, Singleton.get_state()
        )


def _start(settings: DictConfig) -> None:
    """Start Ray on this machine, or connect to the cluster that is named; check the options of the tasks."""
    given = {str(key): value for key, value in settings.init.items() if value is not None}
    if given.get("address") or os.environ.get("RAY_ADDRESS"):
        given = {key: value for key, value in given.items() if key not in _OF_A_NEW_ONE}
    try:
        if not ray.is_initialized():
            ray.init(**given)
        if settings.remote:
            ray.remote(**settings.remote)(one_line)  # any function
    except (ValueError, TypeError, RuntimeError, ConnectionError) as error:
        raise UserError(f"hydra.launcher.ray: {one_line(error)}") from error


def _wait(tasks: Mapping[Any, int]) -> None:
    """Wait for each task; a run whose process died for good does not end the others."""
    for task, number in tasks.items():
        try:
            ray.get(task)
        except RayTaskError as error:
            raise UserError(f"job {number} could not be started: {one_line(error.cause)}") from error
        except RayError as error:
            log.warning("job %d: its process died (%s)", number, type(error).__name__)


def _stop(tasks: Mapping[Any, int]) -> None:
    """Interrupt the tasks, and wait until the runs in progress are saved."""
    for task in tasks:
        ray.cancel(task)
    ray.wait(list(tasks), num_returns=len(tasks), timeout=_PATIENCE)


@contextmanager
def _interrupting() -> Iterator[None]:
    """Interrupt the block by any signal that asks to stop; a second one ends this process without waiting.

    Raises:
        KeyboardInterrupt: the first was Ctrl-C.
        SystemExit: it was another.
    """
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt  # the one exception that waiting for a task passes on

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        if received and received[0] != signal.SIGINT:
            raise SystemExit(75) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
