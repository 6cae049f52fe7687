"""Runs of a sweep that differ only in seed, learning rate or initialisation, trained together in one process."""

import os
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, final

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import InterpolationToMissingValueError

from hydra_plugins.seqlab_sweeps._jobs import run_folders, with_cache
from seqlab.errors import UserError, one_line
from seqlab.sweeps.groups import grouped
from seqlab.sweeps.ledger import read_entry
from seqlab.sweeps.overrides import override_key
from seqlab.sweeps.plan import is_selected


@final
class GroupedTask:
    """Task function of the first run of a group, which trains the others beside it.

    Args:
        function: trains one run.
        context: composes the configs of the others.
        config: of the sweep.

    Attributes:
        groups: overrides of the others, by those of the first run.
    """

    def __init__(self, function: Callable[[DictConfig], Any], context: HydraContext, config: DictConfig) -> None:
        self.function, self.context, self.config = function, with_cache(context), config
        self.groups: dict[tuple[str, ...], list[list[str]]] = {}

    def __call__(self, config: DictConfig) -> Any:
        """Train the group of this run; return its value."""
        own: Any = HydraConfig.instance().cfg
        others = self.others(HydraConfig.get().overrides.task)
        if not others:
            return self.function(config)
        from seqlab.training.replicas.group import train_together

        full = [own, *(self._composed(overrides, own) for overrides in others)]
        jobs = [partial(self.function, config), *(partial(self.function, _task_config(each)) for each in full[1:])]
        try:
            replicas = train_together(jobs, [partial(_enter, each) for each in full])
        finally:
            _enter(own)
        for replica in replicas:
            if replica.turn.error is not None:
                raise replica.turn.error
        return replicas[0].result

    def others(self, overrides: Iterable[str]) -> Sequence[Sequence[str]]:
        """Return the overrides of the runs that train with this one."""
        return self.groups.get(_key(overrides), [])

    def _composed(self, overrides: Sequence[str], own: DictConfig) -> DictConfig:
        """Compose the config of another run as Hydra's launchers do."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.id, config.hydra.job.num = own.hydra.job.id, own.hydra.job.num
            config.hydra.runtime.output_dir = os.path.abspath(  # noqa: PTH100  # as Hydra does: links stay
                Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
            )
        return config


@final
class GroupLauncher(Launcher):
    """Another launcher, with one job for each group of runs.

    Args:
        launcher: of the jobs.
        task: its task function.
    """

    def __init__(self, launcher: Launcher, task: GroupedTask) -> None:
        self._launcher, self._task = launcher, task

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing; the other launcher is set up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch one run of each group, which trains the others: the first that is left, as others need no job."""
        context, config = self._task.context, self._task.config
        try:
            folders = run_folders(context, config, job_overrides)
        except InterpolationToMissingValueError as error:  # such as ${hydra.job.num}, which belongs to a job
            raise UserError(f"hydra.sweeper.group_replicas=true: hydra.sweep.subdir: {one_line(error)}") from error
        done = {tuple(run): not _is_left(folder) for run, folder in zip(job_overrides, folders, strict=True)}
        groups = grouped(job_overrides, _processes(config))
        groups = [sorted(group, key=lambda run: done[tuple(run)]) for group in groups]
        self._task.groups = {_key(group[0]): [list(each) for each in group[1:]] for group in groups}
        return self._launcher.launch([group[0] for group in groups], initial_job_idx)


def _is_left(folder: Path) -> bool:
    return is_selected(folder.name) and read_entry(folder).state not in ("done", "running")


def _key(overrides: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in overrides if not override_key(each).startswith("hydra"))


def _processes(config: DictConfig) -> int:
    """Return the number of processes of the launcher."""
    keys = ("n_jobs", "parallel", "ray.init.num_cpus")
    found = filter(None, (OmegaConf.select(config, f"hydra.launcher.{key}") for key in keys))
    number = int(next(found, -1 if "ray" in config.hydra.launcher else 1))
    return number if number > 0 else os.cpu_count() or 1


def _task_config(config: DictConfig) -> DictConfig:
    task: DictConfig = deepcopy(config)
    with read_write(task), open_dict(task):
        del task["hydra"]
    return task


def _enter(config: DictConfig) -> None:
    HydraConfig.instance().set_config(config)
