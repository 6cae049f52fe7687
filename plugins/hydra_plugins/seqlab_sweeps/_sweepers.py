"""Sweepers: Hydra's basic one for planned runs, and the horizon search."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.seqlab_sweeps._groups import GroupedTask, GroupLauncher
from hydra_plugins.seqlab_sweeps._jobs import with_cache
from seqlab.plugins.hydra_internals import BASIC_LAUNCHER_LOG, planned_sweeper
from seqlab.study.horizon.runner import SearchRunner, finish_search
from seqlab.study.horizon.settings import expand_rows, read_settings
from seqlab.sweeps.ledger import read_plan


@final
class PlannedSweeper(Sweeper):
    """Hydra's basic sweeper without a second composition of every run.

    Args:
        max_batch_size: runs to launch at a time; ``None`` for all.
        params: overrides beside those of the command line.
        group_replicas: whether runs that differ only in seed, learning rate or initialisation are trained together.
    """

    def __init__(
        self, max_batch_size: int | None = None, params: dict[str, str] | None = None, group_replicas: bool = False
    ) -> None:
        self._basic, self.group_replicas = planned_sweeper(max_batch_size, params), group_replicas

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Set the basic sweeper up."""
        hydra_context = with_cache(hydra_context)
        if not self.group_replicas:
            self._basic.setup(hydra_context=hydra_context, task_function=task_function, config=config)
            return
        task = GroupedTask(task_function, hydra_context, config)
        self._basic.setup(hydra_context=hydra_context, task_function=task, config=config)
        launcher = self._basic.launcher
        assert launcher is not None
        self._basic.launcher = GroupLauncher(launcher, task)

    def sweep(self, arguments: list[str]) -> Any:
        """Launch every run."""
        return self._basic.sweep(arguments)


@final
class HorizonSweeper(Sweeper):
    """Search for the largest distance that each row solves.

    Args:
        **settings: see :class:`seqlab.study.horizon.settings.Settings`.
    """

    def __init__(self, **settings: Any) -> None:
        self._given = settings
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self._launched = 0

    @staticmethod
    def check(node: Mapping[str, Any], overrides: Sequence[str]) -> None:
        """Check the settings of a search before its folder is made.

        Raises:
            seqlab.UserError, hydra.errors.HydraException: the search cannot be made.
        """
        expand_rows(overrides, read_settings(node))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the config and create the launcher."""
        self.config = config
        task = GroupedTask(task_function, hydra_context, config) if self._given.get("group_replicas") else None
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=with_cache(hydra_context), task_function=task or task_function, config=config
        )
        if task is not None:
            self.launcher = GroupLauncher(self.launcher, task)
        for name in (BASIC_LAUNCHER_LOG, "hydra_plugins.hydra_joblib_launcher"):
            logging.getLogger(name).setLevel(logging.WARNING)  # the search prints one line a batch itself

    def sweep(self, arguments: list[str]) -> None:
        """Run the search.

        Raises:
            seqlab.UserError: the search cannot be made with these overrides.
        """
        assert self.config is not None
        given = OmegaConf.to_container(OmegaConf.create(self._given), resolve=True)
        assert isinstance(given, dict)
        settings = read_settings({str(key): value for key, value in given.items()})
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        SearchRunner(folder, read_plan(folder)["words"], arguments, settings, self._launch).run()
        finish_search(folder)

    def _launch(self, runs: Sequence[Sequence[str]]) -> None:
        assert self.launcher is not None
        first, self._launched = self._launched, self._launched + len(runs)
        for done in self.launcher.launch(runs, initial_job_idx=first):
            _ = done.return_value  # raises the error of a run that its own run record could not take
